"""Recipe, loop, optimiser, checkpoint and run log."""
