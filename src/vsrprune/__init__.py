"""Structured pruning of video super-resolution networks: stages, sweeps and honest measurements."""
