"""What forms of student cost on this machine before they learn, and which of those that did is the one to take."""
