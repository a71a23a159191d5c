"""The group `task`: what a network restores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vsrprune.knobs import knob

SUPER_RESOLUTION = "sr"
# The options that each task reads.
TASKS: Mapping[str, tuple[str, ...]] = {SUPER_RESOLUTION: (), "denoise": ("sigma",), "deblur": ("blur_frames",)}


@dataclass
class TaskConfig:
    """What a network restores: low resolution (sr), or at scale 1 noise (denoise) or motion blur (deblur)."""

    name: str = knob("sr", "The task: super-resolution, or restoration at the input's size.", choices=tuple(TASKS))
    sigma: float = knob(
        25.0,
        "task=denoise: the standard deviation of the Gaussian noise, in 8-bit steps.",
        above=0,
        at_most=255,
        words="the noise's standard deviation in 8-bit steps",
    )
    blur_frames: int = knob(
        7,
        "task=deblur: so many consecutive frames are averaged; the sharp one stands in the middle.",
        at_least=3,
        at_most=101,
        odd=True,
        words="frames averaged",
    )

    @property
    def options(self) -> dict[str, float]:
        """The options that the task reads, by name."""
        return {name: getattr(self, name) for name in TASKS[self.name]}
