"""Stage 1: how important each unit is."""
