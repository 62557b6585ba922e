"""Packed binary codes and exact Hamming search over immutable, checksummed generations on disk."""
