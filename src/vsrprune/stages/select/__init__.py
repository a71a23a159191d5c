"""Stage 2: the units that go."""
