"""PSNR and SSIM of 8-bit frames, on RGB or on the Y channel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from vsrprune.errors import UserError, one_of

CHANNELS = ("rgb", "y")
IDENTICAL_DB = 100.0  # the PSNR of identical frames, so that means stay finite
_LUMA = (65.481, 128.553, 24.966)  # BT.601, studio range: 16 + luma . RGB for RGB in [0, 1]
SSIM_WINDOW = 11  # pixels a side
_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # what keeps SSIM's quotient finite
CPU = torch.device("cpu")
# Samples (pixels times bands) that are compared at once. Strips of frames stay in a CPU's cache: a 720p frame in RGB
# takes 0.10 s so, and 0.37 s whole. A GPU has its fill with a few frames, which take about half a GiB.
_SAMPLES = {True: 2**17, False: 2**23}  # by whether it is a CPU


@dataclass(frozen=True)
class FrameQuality:
    """PSNR in dB and SSIM of every frame of a clip."""

    psnr: list[float]
    ssim: list[float]


@torch.inference_mode()
def frame_quality(
    output_TCHW: Tensor, truth_TCHW: Tensor, channel: str, crop: int, device: torch.device = CPU
) -> FrameQuality:
    """Compare uint8 RGB clips frame by frame, in float64 on `device`.

    channel: `rgb`, or `y` (BT.601 studio range, as MATLAB's rgb2ycbcr, not rounded). crop: border pixels left out.
    Raises UserError for an unknown channel or frames too small for the 11x11 window of SSIM.
    """
    one_of("metric channel", channel, CHANNELS)
    height, width = (side - 2 * crop for side in truth_TCHW.shape[-2:])
    if min(height, width) < SSIM_WINDOW:
        raise UserError(
            f"frames of {width}x{height} (after cropping {crop} pixels) are smaller than SSIM's window,"
            f" {SSIM_WINDOW}x{SSIM_WINDOW}"
        )
    if len(output_TCHW) != len(truth_TCHW):
        raise ValueError(f"{len(output_TCHW)} frames of output and {len(truth_TCHW)} of truth: one clip is longer")
    inner = [clip[..., crop : crop + height, crop : crop + width] for clip in (output_TCHW, truth_TCHW)]
    together = max(1, _SAMPLES[device.type == "cpu"] // (truth_TCHW.shape[1] * height * width))
    parts = zip(*(clip.split(together) for clip in inner), strict=True)
    with _beside_others(device):
        scores = [_scores(output_NCHW, truth_NCHW, channel, device) for output_NCHW, truth_NCHW in parts]
        errors, likenesses = (torch.cat(values).tolist() for values in zip(*scores, strict=True))
    return FrameQuality([_decibels(error) for error in errors], likenesses)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _beside_others(device: torch.device) -> AbstractContextManager[object]:
    """On a GPU nothing waits here for the network that is queued already, nor the network for this."""
    # Always the same stream: PyTorch keeps the memory that was used in one for that one.
    return torch.cuda.stream(_stream(device)) if device.type == "cuda" else nullcontext()


def _scores(output_NCHW: Tensor, truth_NCHW: Tensor, channel: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean square error and SSIM of every frame."""
    frames, bands, height, width = truth_NCHW.shape
    bands = 1 if channel == "y" else bands
    error_N = torch.zeros(frames, dtype=torch.float64, device=device)
    alike_N = torch.zeros_like(error_N)
    for rows, own in _strips(height, max(1, _SAMPLES[device.type == "cpu"] // (frames * bands * width))):
        output, truth = (
            _prepared(clip_NCHW[..., rows, :].to(device), channel) for clip_NCHW in (output_NCHW, truth_NCHW)
        )
        error_N += (output - truth)[..., own, :].square_().sum((1, 2, 3))
        alike_N += _similarity(output, truth).sum((1, 2, 3))
    margin = SSIM_WINDOW - 1
    return error_N / (bands * height * width), alike_N / (bands * (height - margin) * (width - margin))


def _strips(height: int, rows: int) -> Iterator[tuple[slice, slice]]:
    """Strips of a frame that hold the windows of `rows` rows of places, and their rows that no other strip has."""
    margin = SSIM_WINDOW - 1
    for top in range(0, height - margin, rows):
        bottom = min(top + rows + margin, height)
        yield slice(top, bottom), slice(0, None if bottom == height else rows)


def _prepared(frames_NCHW: Tensor, channel: str) -> Tensor:
    """(N, C, H, W) in [0, 255]."""
    frames_NCHW = frames_NCHW.double()
    if channel == "y":
        luma = torch.tensor(_LUMA, dtype=torch.float64, device=frames_NCHW.device)
        return torch.einsum("c,nchw->nhw", luma, frames_NCHW)[:, None] / 255 + 16
    return frames_NCHW


def _similarity(output_NCHW: Tensor, truth_NCHW: Tensor) -> Tensor:
    """SSIM of every window inside the frames, (N, C, H - 10, W - 10).

    Gaussian weights over 11x11 pixels, population variances: as Wang et al. (2004) and the published tables.
    """
    x, y = output_NCHW, truth_NCHW
    # Four filtered maps are enough, since the variances are only ever added.
    mean_x, mean_y, squares, product = map(_filtered, (x, y, x * x + y * y, x * y))
    both, energy = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance, variances = product - both, squares - energy
    return (2 * both + _C1) * (2 * covariance + _C2) / ((energy + _C1) * (variances + _C2))


def _filtered(x_NCHW: Tensor) -> Tensor:
    """Weighted means over all windows inside, along columns and then along rows."""
    # Shifted sums: a convolution of PyTorch in float64 takes ten times as long on a CPU.
    for axis in (-2, -1):
        places = x_NCHW.shape[axis] - SSIM_WINDOW + 1
        sums = _WEIGHTS[0] * x_NCHW.narrow(axis, 0, places)
        for shift, weight in enumerate(_WEIGHTS[1:], start=1):
            sums.add_(x_NCHW.narrow(axis, shift, places), alpha=weight)
        x_NCHW = sums
    return x_NCHW


def _gaussian() -> list[float]:
    values = [math.exp(-((place - SSIM_WINDOW // 2) ** 2) / (2 * _SIGMA**2)) for place in range(SSIM_WINDOW)]
    return [value / math.fsum(values) for value in values]


_WEIGHTS = _gaussian()


def _decibels(error: float) -> float:
    return IDENTICAL_DB if error == 0 else min(IDENTICAL_DB, 10 * math.log10(255**2 / error))
