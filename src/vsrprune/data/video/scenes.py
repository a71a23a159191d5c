"""Scene cuts: where one picture ends and another begins."""

from __future__ import annotations

from statistics import median_low

import torch
from torch import Tensor

BINS = 64  # of four levels each
ABOVE_MOTION = 3.0  # a cut stands out by this factor from the changes around it
AROUND = 3  # frames to each side with which it is compared: a flash is shorter


def scene_starts(frames_TCHW: Tensor, threshold: float) -> list[int]:
    """Frame indices at which scenes start, 0 among them.

    A scene starts where each of the three frames before differs from each of the three after by more than `threshold`
    of the luma histogram, in [0, 1], and where the change stands out from the median of those around it. So a flash is
    no cut, since the picture after it is the one before it, nor is a fade; but each of several cuts in short order is.
    frames_TCHW: RGB uint8; low resolution is enough.
    """
    histograms = _luma_histograms(frames_TCHW)
    changes = _changes(histograms)
    starts = [0]
    for index, change in enumerate(changes):
        start = index + 1
        before, after = histograms[max(start - AROUND, 0) : start], histograms[start : start + AROUND]
        # Half the L1 distance of two histograms is the share of pixels that differ. The nearest pair decides.
        apart = float(torch.cdist(before, after, p=1).min()) / 2
        others = changes[max(index - AROUND, 0) : index] + changes[start : start + AROUND]
        if apart > threshold and change > ABOVE_MOTION * (median_low(others) if others else 0.0):
            starts.append(start)
    return starts


def histogram_changes(frames_TCHW: Tensor) -> list[float]:
    """The share of pixels that would have to change for equal luma histograms, between consecutive frames."""
    return _changes(_luma_histograms(frames_TCHW))


def _changes(histograms: Tensor) -> list[float]:
    return (histograms.diff(dim=0).abs().sum(1) / 2).tolist()


def _luma_histograms(frames_TCHW: Tensor) -> Tensor:
    """(T, BINS) float32; every row sums to 1."""
    weights = torch.tensor((0.299, 0.587, 0.114)).view(3, 1, 1)
    return torch.stack(
        [torch.histc((frame.float() * weights).sum(0), BINS, 0, 256) / frame[0].numel() for frame in frames_TCHW]
    )
