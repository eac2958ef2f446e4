"""The pipelines: each DAG on one screen. Knows no torch."""
