"""The flow net by itself, before the dense network is trained."""
