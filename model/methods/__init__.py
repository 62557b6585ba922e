"""Hashing methods, one file each, readable alone."""
