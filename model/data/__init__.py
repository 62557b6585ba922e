"""Data sets, one file each: metadata literal and reader."""
