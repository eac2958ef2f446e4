"""Typed KFP shells around the steps: each checks its settings, calls one function and logs to MLflow."""
