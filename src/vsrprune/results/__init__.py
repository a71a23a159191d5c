"""What a job found, and how results compare."""
