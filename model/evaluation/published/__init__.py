"""Methods as they were released: encoders that are told the labels, for the oracle protocol and nothing else."""
