"""What enlarges features to frames: one row of convolutions per file, without torch."""
