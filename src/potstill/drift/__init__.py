"""Drift: whether what a model meets in production is still what it was trained on. NumPy alone, no torch."""
