"""Names of the photographs that the demo clips show (no torch, so that keys stay cheap)."""

TRAIN_PHOTOS = ("astronaut", "coffee", "rocket", "ihc", "motorcycle_left", "retina")
VAL_PHOTOS = ("chelsea", "hubble_deep_field")
