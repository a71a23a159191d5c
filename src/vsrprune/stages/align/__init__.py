"""ASSL's stage before the score."""
