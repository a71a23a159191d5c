"""A sweep on many workers and its store, as a simulation: benchmarks/scale.py."""
