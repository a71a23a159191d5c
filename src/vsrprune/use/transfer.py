"""Frames on their way between the host and the device that computes; on a CPU there is no way.

On a GPU copies run beside the arithmetic: from and to pinned memory, which PyTorch keeps for reuse and does not hand
out again before a copy that it serves has ended.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vsrprune.data.video.colour import RgbFrame


def to_host_memory(pixels_HW3: RgbFrame, device: torch.device) -> Tensor:
    """A frame of 8 bits where a copy to the device can start from without a wait."""
    pixels = torch.from_numpy(np.require(pixels_HW3, requirements="W"))  # PyTorch warns of arrays that are read-only
    return pixels.pin_memory() if device.type == "cuda" else pixels


def to_device(pixels_HW3: Tensor, device: torch.device) -> Tensor:
    """What `to_host_memory` gave as (1, 3, H, W), RGB in [0, 1], on the device; does not wait for the copy."""
    # In 8 bits over the bus, a quarter of the bytes; the device turns and converts.
    return pixels_HW3.to(device, non_blocking=True).permute(2, 0, 1)[None].float() / 255


def to_8_bits(high_NCHW: Tensor) -> Tensor:
    """RGB in [0, 1], clipped and rounded to 8 bits, where it lies."""
    return (high_NCHW.float().clamp(0, 1) * 255).round().to(torch.uint8)


def from_device(frame_NCHW: Tensor) -> Callable[[], RgbFrame]:
    """Turn a frame (1, 3, H, W) of 8 bits and start its copy to the host; call the result to wait for the pixels."""
    pixels_HW3 = frame_NCHW[0].permute(1, 2, 0).contiguous()
    if not pixels_HW3.is_cuda:
        return pixels_HW3.numpy
    host_HW3 = torch.empty(pixels_HW3.shape, dtype=torch.uint8, pin_memory=True)
    host_HW3.copy_(pixels_HW3, non_blocking=True)
    # Blocking: the thread that waits sleeps meanwhile, and leaves its core to the encoder.
    copied = torch.cuda.Event(blocking=True)
    copied.record(torch.cuda.current_stream(pixels_HW3.device))

    def wait() -> RgbFrame:
        copied.synchronize()
        pixels: RgbFrame = host_HW3.numpy()
        return pixels

    return wait
