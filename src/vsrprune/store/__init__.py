"""Artifacts on disk: the store, its leases, and atomic files."""
