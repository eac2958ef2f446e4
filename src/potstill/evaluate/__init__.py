"""Figures about a model, the contract that judges them, and the report that shows them."""
