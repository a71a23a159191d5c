"""The form of a compact network that runs fastest where it runs."""
