"""A trained network in use: on videos, and as files for other programs."""
