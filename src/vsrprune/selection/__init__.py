"""Which units go: numbers alone, without torch."""
