"""Inputs of full size, made from the truth: noisy frames, and frames blurred by motion."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, overload

import numpy as np
import torch
from torch import Tensor

from vsrprune.data.clips import Clip, ClipSet, Window


class Corruption(Protocol):
    """Makes the input of a network from the truth."""

    @property
    def reach(self) -> int:
        """Frames before and after a frame that its input also depends on."""

    def __call__(self, frames_TCHW: Tensor, draw: np.random.Generator) -> Tensor:
        """Corrupt 8-bit frames (T, C, H, W) to 8-bit frames of that shape; all random numbers come from `draw`."""


@dataclass(frozen=True)
class Noise:
    """White Gaussian noise of standard deviation `sigma`, in 8-bit steps; clipped and rounded to 8 bits."""

    sigma: float
    reach = 0

    def __call__(self, frames_TCHW: Tensor, draw: np.random.Generator) -> Tensor:
        """See Corruption. Frame by frame: floats of a whole clip would take four times its memory."""
        return torch.stack([self._noisy(frame_CHW, draw) for frame_CHW in frames_TCHW])

    def _noisy(self, frame_CHW: Tensor, draw: np.random.Generator) -> Tensor:
        noise_CHW = torch.from_numpy(draw.standard_normal(frame_CHW.shape, dtype=np.float32))
        return (frame_CHW + self.sigma * noise_CHW + 0.5).floor().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class MeanOfFrames:
    """The mean of `blur_frames` (odd) consecutive frames, as of a long exposure; halves are rounded up.

    At the ends of a clip the mean is over the frames that exist.
    """

    blur_frames: int

    @property
    def reach(self) -> int:
        """See Corruption."""
        return self.blur_frames // 2

    def __call__(self, frames_TCHW: Tensor, draw: np.random.Generator) -> Tensor:
        """See Corruption."""
        return torch.stack([self._mean(frames_TCHW, t) for t in range(len(frames_TCHW))])

    def _mean(self, frames_TCHW: Tensor, t: int) -> Tensor:
        exposed_TCHW = frames_TCHW[max(0, t - self.reach) : t + self.reach + 1]
        # In integers, (2 * total + n) // (2 * n) rounds total / n, halves up, without an error.
        length, total_CHW = len(exposed_TCHW), exposed_TCHW.sum(dim=0, dtype=torch.int32)
        return torch.div(2 * total_CHW + length, 2 * length, rounding_mode="floor").to(torch.uint8)


# Name of a task -> the corruption that its options parametrise.
CORRUPTIONS: Mapping[str, Callable[..., Corruption]] = {"denoise": Noise, "deblur": MeanOfFrames}


class CorruptedClip(Clip):
    """A clip whose input is made from its truth: always the same for the whole clip, drawn anew for every patch."""

    corruption: Corruption

    def __init__(self, clip: Clip, corruption: Corruption) -> None:
        # Clip is frozen, and its field low_TCHW is a property here: the fields are set past both.
        vars(self).update(name=clip.name, high_TCHW=clip.high_TCHW, corruption=corruption)

    @cached_property
    def low_TCHW(self) -> Tensor:  # noqa: N802  the field that it takes the place of
        """The input (T, 3, H, W), made at the first access: training patches never need it whole."""
        # Seeded by the name, so that every job is compared on the same noise; hash() differs between processes.
        name = hashlib.blake2b(self.name.encode(), digest_size=8).digest()
        return self.corruption(self.high_TCHW, np.random.default_rng(int.from_bytes(name)))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = self.high_TCHW.shape[-2:]
        return height, width

    def patch(self, window: Window, scale: int, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
        """See Clip.patch; the input is made from the truth of the window and the frames around it."""
        first = max(0, window.start - self.corruption.reach)
        stop = window.start + window.frames + self.corruption.reach
        around_TCHW = window._replace(start=first, frames=stop - first).cut(self.high_TCHW)
        inside = slice(window.start - first, window.start - first + window.frames)
        return self.corruption(around_TCHW, draw)[inside], around_TCHW[inside]


class CorruptedClips(Sequence[Clip]):
    """Clips that are corrupted when they are drawn. No whole input is kept, so that none is ever stale."""

    def __init__(self, clips: Sequence[Clip], corruption: Corruption) -> None:
        self._clips, self._corruption = clips, corruption

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> CorruptedClips: ...
    def __getitem__(self, index: int | slice) -> Clip | CorruptedClips:
        """One clip, or several."""
        if isinstance(index, slice):
            return CorruptedClips(self._clips[index], self._corruption)
        return CorruptedClip(self._clips[index], self._corruption)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._clips)


def corrupted(clips: ClipSet, task: str, options: Mapping[str, float]) -> ClipSet:
    """The clips with the input that a task asks for; a task without a corruption leaves them as they are.

    options: the keyword arguments of the corruption.
    """
    if task not in CORRUPTIONS:
        return clips
    corruption = CORRUPTIONS[task](**options)
    train, val, test = (CorruptedClips(part, corruption) for part in (clips.train, clips.val, clips.test))
    return ClipSet(train, val, clips.notes, test, clips.unlabelled)
