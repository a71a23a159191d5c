"""The pruning methods and baselines that are compared, each in a file of its own. Imports no torch."""
