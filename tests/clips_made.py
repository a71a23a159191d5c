"""The demo's clips at their fewest, rendered once in a process of the tests."""

from __future__ import annotations

from vsrprune.data.demo import demo_clips

DEMO = demo_clips(scale=4, seed=0, train_per_photo=1, val_per_photo=1, frames=5)
