"""The steps: each a function of recipe sections and folders. They know no runner, tracker, bucket or environment."""
