"""A clip: 8-bit frames at full and at low resolution, or their input at scale 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vsrprune.data.degradation import degrade
from vsrprune.data.look import too_short
from vsrprune.errors import UserError


class Window(NamedTuple):
    """A square of `side` pixels in consecutive frames: its first frame, and its top left corner."""

    start: int
    frames: int
    y: int
    x: int
    side: int

    def cut(self, video_TCHW: Tensor, scale: int = 1) -> Tensor:
        """That part of a video that is larger by `scale`."""
        y, x, side = self.y * scale, self.x * scale, self.side * scale
        return video_TCHW[self.start : self.start + self.frames, :, y : y + side, x : x + side]


@dataclass(frozen=True)
class Clip:
    """high_TCHW: the truth (T, 3, scale*h, scale*w), low_TCHW: the input (T, 3, h, w), both RGB uint8.

    A clip without truth has a high_TCHW of no pixels, (T, 3, 0, 0): what reads it by mistake fails for its shape.
    """

    name: str
    high_TCHW: Tensor
    low_TCHW: Tensor

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.high_TCHW.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = self.low_TCHW.shape[-2:]
        return height, width

    @property
    def has_truth(self) -> bool:
        """Whether there is a truth to compare outputs with."""
        return self.high_TCHW.numel() > 0

    def judged_by(self, output_TCHW: Tensor) -> Clip:
        """The clip with these uint8 frames in place of a truth that it does not have; itself where it has one."""
        return self if self.has_truth else Clip(self.name, output_TCHW, self.low_TCHW)

    def patch(self, window: Window, scale: int, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Input and truth of a training patch, uint8; `draw` is for clips whose input is random."""
        return window.cut(self.low_TCHW), window.cut(self.high_TCHW, scale)


@dataclass(frozen=True)
class ClipSet:
    """Training, held-out and test clips, and what was done to the data that a reader of the results should know.

    unlabelled: clips without truth that are trained on beside the training clips.
    """

    train: Sequence[Clip]
    val: Sequence[Clip]
    notes: Sequence[str] = ()
    test: Sequence[Clip] = ()
    unlabelled: Sequence[Clip] = ()


def input_clip(name: str, frames_TCHW: Tensor) -> Clip:
    """A clip without truth, whose uint8 frames are the input as they are."""
    return Clip(name, frames_TCHW.new_empty(*frames_TCHW.shape[:2], 0, 0), frames_TCHW)


def make_clip(name: str, frames_TCHW: Tensor, scale: int, degradation: str = "bicubic") -> tuple[Clip, str | None]:
    """Crop uint8 frames to a multiple of `scale`, and shrink them by a degradation (a name in DEGRADATIONS).

    At scale 1 the input is the truth itself, and a task's corruption replaces it. Returns the clip and a sentence about
    the crop, if there was one.
    """
    high_TCHW, note = _cropped(name, frames_TCHW, scale)
    low_TCHW = high_TCHW if scale == 1 else degrade(high_TCHW, scale, degradation)
    return Clip(name, high_TCHW, low_TCHW), note


def pair_clip(name: str, frames_TCHW: Tensor, low_TCHW: Tensor, scale: int) -> tuple[Clip, str | None]:
    """The same with given low-resolution frames; raises UserError if they are not 1/scale of the cropped frames."""
    high_TCHW, note = _cropped(name, frames_TCHW, scale)
    length, _, height, width = high_TCHW.shape
    expected, given = (length, width // scale, height // scale), (low_TCHW.shape[0], *low_TCHW.shape[:1:-1])
    if given != expected:
        raise UserError(
            "clip {}: its low-resolution frames are {} of {}x{}, but 1/{} of the others is {} of {}x{}".format(
                name, *given, scale, *expected
            )
        )
    return Clip(name, high_TCHW, low_TCHW), note


def _cropped(name: str, frames_TCHW: Tensor, scale: int) -> tuple[Tensor, str | None]:
    height, width = frames_TCHW.shape[-2:]
    cropped_height, cropped_width = height // scale * scale, width // scale * scale
    if min(cropped_height, cropped_width) == 0:
        raise UserError(f"clip {name}: frames of {width}x{height} are smaller than the scale {scale}")
    note = None
    if (cropped_height, cropped_width) != (height, width):
        note = (
            f"frames cropped from {width}x{height} to {cropped_width}x{cropped_height}, a multiple of the scale {scale}"
        )
    # At the bottom and right, as released code crops: the phase of the samples stays that of the whole frame.
    return frames_TCHW[..., :cropped_height, :cropped_width].contiguous(), note


def check_clips(clips: Sequence[Clip], frames: int, patch: int, knob: str = "schedule.frames") -> None:
    """Raise UserError for the first clip that is shorter than `frames`, or whose input is smaller than a `patch`.

    knob: by which so many frames were asked for.
    """
    for clip in clips:
        height, width = clip.size
        if clip.frames < frames:
            raise too_short(clip.name, clip.frames, frames, knob)
        if min(height, width) < patch:
            raise UserError(
                f"the input of clip {clip.name} is {width}x{height}, but training takes patches of"
                f" {patch}x{patch}; use larger frames or schedule.patch={min(height, width)} or less"
            )
