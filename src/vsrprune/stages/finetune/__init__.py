"""Stage 5: train the compact network."""
