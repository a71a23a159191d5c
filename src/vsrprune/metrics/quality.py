"""PSNR and SSIM of 8-bit frames, on RGB or on the Y channel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from vsrprune.errors import UserError, one_of

CHANNELS = ("rgb", "y")
IDENTICAL_DB = 100.0  # the PSNR of identical frames, so that means stay finite
_LUMA = (65.481, 128.553, 24.966)  # BT.601, studio range: 16 + luma . RGB for RGB in [0, 1]
SSIM_WINDOW = 11  # pixels a side: the Gaussian weights of sigma 1.5, cut off at 3.5 sigma


@dataclass(frozen=True)
class FrameQuality:
    """PSNR in dB and SSIM of every frame of a clip."""

    psnr: list[float]
    ssim: list[float]


def frame_quality(output_TCHW: Tensor, truth_TCHW: Tensor, channel: str, crop: int) -> FrameQuality:
    """Compare uint8 RGB clips frame by frame.

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
    pairs = zip(output_TCHW, truth_TCHW, strict=True)
    scores = [_quality(_prepared(a, channel, crop), _prepared(b, channel, crop)) for a, b in pairs]
    return FrameQuality([psnr for psnr, _ in scores], [ssim for _, ssim in scores])


def _prepared(frame_CHW: Tensor, channel: str, crop: int) -> NDArray[np.float64]:
    """(C, H, W) in [0, 255]."""
    height, width = frame_CHW.shape[-2:]
    image = frame_CHW[:, crop : height - crop, crop : width - crop].cpu().numpy().astype(np.float64)
    if channel == "y":
        image = 16 + np.tensordot(_LUMA, image, axes=1)[None] / 255
    return image


def _quality(output: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float]:
    error = float(np.square(output - truth).mean())
    psnr = IDENTICAL_DB if error == 0 else min(IDENTICAL_DB, 10 * math.log10(255**2 / error))
    # Gaussian weights over 11x11, population variance, only windows inside the frame: as Wang et al. (2004) and the
    # published tables. (torchmetrics 1.9 averages padded windows too, comes out up to 0.01 higher, and takes 20 times
    # as long in float64.)
    ssim = structural_similarity(
        output,
        truth,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    return psnr, float(ssim)
