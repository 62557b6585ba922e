"""The compiled Hamming kernel: C sources, and the ctypes door to them. Absent where nothing could compile it."""
