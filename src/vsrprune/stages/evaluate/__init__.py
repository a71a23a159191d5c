"""Stage 6: quality and cost of the compact network."""
