"""Training: the loop, the optimiser step, checkpoints."""
