"""The machine at hand: its processes, times, names, failure cards, and W&B."""
