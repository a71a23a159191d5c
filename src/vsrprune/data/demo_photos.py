"""What the demo clips show, and how large they are (no torch, so that keys stay cheap)."""

TRAIN_PHOTOS = ("astronaut", "coffee", "rocket", "ihc", "motorcycle_left", "retina")
VAL_PHOTOS = ("chelsea", "hubble_deep_field")
FRAME = (160, 224)  # height, width at full resolution
