"""What a branch of BasicVSR makes of a frame and of the states that it remembers, one recurrence per file."""
