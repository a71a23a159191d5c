"""The mathematics of pruning, one file per step: pure functions on tensors and plans."""
