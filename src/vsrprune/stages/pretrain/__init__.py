"""Stage 0: the dense network."""
