"""Which channels live and die together, without torch."""
