"""Hashing methods, their training, data and evaluation; ``model.hasher`` is the only door to codes."""
