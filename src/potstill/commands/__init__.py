"""Before and beside a run: which student would do on this machine, and what each step of making it gains."""
