"""The baseline and the dense network on the held-out clips, shared by every job on them."""
