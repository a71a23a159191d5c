"""MATLAB's imresize with its antialiased bicubic kernel, the degradation called BI in the literature."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def imresize(images_NCHW: Tensor, scale: float) -> Tensor:
    """Resize float images (..., H, W) by a factor, as MATLAB's bicubic `imresize` does.

    Shrinking widens the kernel by 1/scale (antialiasing); borders are mirrored. The result is not clipped or rounded.
    Sides become ceil(side * scale).
    """
    height, width = images_NCHW.shape[-2:]
    rows = _resize_matrix(height, scale).to(images_NCHW)
    columns = _resize_matrix(width, scale).to(images_NCHW)
    return rows @ images_NCHW @ columns.T


def bicubic_uint8(frames_TCHW: Tensor, scale: float) -> Tensor:
    """`imresize` of 8-bit frames, clipped and rounded once to 8 bits."""
    return to_uint8(imresize(frames_TCHW.double(), scale) / 255)


def to_uint8(images: Tensor) -> Tensor:
    """Clip [0, 1] images and round them to 8 bits, halves up."""
    return (images.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)


@lru_cache(maxsize=64)
def _resize_matrix(length: int, scale: float) -> Tensor:
    """(ceil(length * scale), length) float64 weights; every row sums to 1."""
    output = math.ceil(length * scale)
    stretch = min(scale, 1.0)
    centre = (torch.arange(output, dtype=torch.float64) + 0.5) / scale - 0.5
    taps = math.ceil(4 / stretch) + 2
    index = (centre - 2 / stretch).floor()[:, None] + torch.arange(taps, dtype=torch.float64)
    weight = _cubic((centre[:, None] - index) * stretch)
    weight = weight / weight.sum(dim=1, keepdim=True)
    mirrored = index.long() % (2 * length)
    mirrored = torch.where(mirrored < length, mirrored, 2 * length - 1 - mirrored)
    return torch.zeros(output, length, dtype=torch.float64).scatter_add_(1, mirrored, weight)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel, a = -0.5."""
    x = x.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, inner, torch.where(x < 2, outer, torch.zeros_like(x)))
