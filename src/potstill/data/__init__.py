"""Rows in, a clean and divided dataset out."""
