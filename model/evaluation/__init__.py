"""Protocols and tie-aware metrics over codes that a Hasher made."""
