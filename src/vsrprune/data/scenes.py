"""Scene cuts: where the picture changes altogether from one frame to the next."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 64
ABOVE_MOTION = 3.0  # a cut stands out by this factor from the changes around it
AROUND = 3  # frames to each side that it is compared with


def scene_starts(frames_TCHW: Tensor, threshold: float) -> list[int]:
    """Frame indices at which scenes start, 0 among them.

    A scene starts where the luma histogram differs from the last frame's by more than `threshold` of the pixels, in
    [0, 1], and by three times more than between any two frames around: a flash comes and goes, so it is none.
    frames_TCHW: RGB uint8; low resolution is enough.
    """
    changes = histogram_changes(frames_TCHW)
    starts = [0]
    for index, change in enumerate(changes):
        around = changes[max(index - AROUND, 0) : index] + changes[index + 1 : index + 1 + AROUND]
        if change > threshold and change > ABOVE_MOTION * max(around, default=0.0):
            starts.append(index + 1)
    return starts


def histogram_changes(frames_TCHW: Tensor) -> list[float]:
    """Between consecutive frames: the share of pixels that would have to change for equal luma histograms."""
    weights = torch.tensor((0.299, 0.587, 0.114)).view(3, 1, 1)
    histograms = torch.stack(
        [torch.histc((frame.float() * weights).sum(0), BINS, 0, 256) / frame[0].numel() for frame in frames_TCHW]
    )
    return (histograms.diff(dim=0).abs().sum(1) / 2).tolist()
