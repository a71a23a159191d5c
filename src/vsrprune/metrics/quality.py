"""PSNR and SSIM of 8-bit frames, on RGB or on the Y channel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vsrprune.errors import UserError, one_of

CHANNELS = ("rgb", "y")
IDENTICAL_DB = 100.0  # the PSNR given to identical frames, so that means stay finite
_LUMA = (65.481, 128.553, 24.966)  # BT.601, studio range: 16 + luma . RGB for RGB in [0, 1]
SSIM_WINDOW = 11


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


def _prepared(frame_CHW: Tensor, channel: str, crop: int) -> Tensor:
    """(1, C, H, W) float64 in [0, 255]."""
    height, width = frame_CHW.shape[-2:]
    image = frame_CHW[:, crop : height - crop, crop : width - crop].double()
    if channel == "y":
        luma = torch.tensor(_LUMA, dtype=image.dtype, device=image.device).view(3, 1, 1)
        image = 16 + (image * luma).sum(dim=0, keepdim=True) / 255
    return image[None]


def _quality(output: Tensor, truth: Tensor) -> tuple[float, float]:
    error = float((output - truth).square().mean())
    psnr = IDENTICAL_DB if error == 0 else min(IDENTICAL_DB, 10 * math.log10(255**2 / error))
    _, ssim_map = structural_similarity_index_measure(
        output, truth, sigma=1.5, kernel_size=SSIM_WINDOW, data_range=255.0, return_full_image=True
    )
    # The published values average only windows that lie inside the frame; torchmetrics averages padded ones too.
    inside = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))
    return psnr, float(ssim_map[..., inside, inside].mean())
