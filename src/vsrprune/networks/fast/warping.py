"""Warps of frozen networks on a CPU: what `warp` computes, without leaving the channels of a pixel side by side."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrprune.networks.fast.kernels import is_channels_last
from vsrprune.networks.parts.layers import warp

# From so many channels on it is faster than grid_sample, which writes its output in the other memory format. At 180x320
# on two cores a state of 64 channels took 1.8 ms in place of 5.1, one of 32 1.6 in place of 2.3, one of 16 1.5 in place
# of 1.3; a step of a pruned branch of 64 channels took 95 in place of 99, one of 24 gained nothing.
LEAST_CHANNELS = 32


def warped(input_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
    """What `warp` makes of these, in the input's memory format."""
    if not _reads_pixels(input_NCHW, flow_N2HW):
        return warp(input_NCHW, flow_N2HW)
    channels, height, width = input_NCHW.shape[1:]
    columns, rows = (torch.arange(side, dtype=flow_N2HW.dtype) for side in (width, height))
    left, right, of_left, of_right = _neighbours(flow_N2HW[0, 0], columns)
    above, below, of_above, of_below = _neighbours(flow_N2HW[0, 1], rows[:, None])
    above, below = above.mul_(width), below.mul_(width)
    pixels = torch.stack((above + left, above + right, below + left, below + right), dim=-1)
    weights = torch.stack((of_above * of_left, of_above * of_right, of_below * of_left, of_below * of_right), dim=-1)
    # A sum of weighted rows of a table, of which a row is the channels of a pixel.
    sampled_PC = F.embedding_bag(
        pixels.view(-1, 4),
        input_NCHW.permute(0, 2, 3, 1).reshape(height * width, channels),
        mode="sum",
        per_sample_weights=weights.view(-1, 4),
    )
    return sampled_PC.view(1, height, width, channels).permute(0, 3, 1, 2)


def _reads_pixels(input_NCHW: Tensor, flow_N2HW: Tensor) -> bool:
    return (
        input_NCHW.device.type == "cpu"
        and len(input_NCHW) == 1
        and input_NCHW.shape[1] >= LEAST_CHANNELS
        and input_NCHW.dtype == flow_N2HW.dtype == torch.float32
        and is_channels_last(input_NCHW)
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


def _neighbours(flow_HW: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Along one axis: the pixels on both sides of each sampled position, and their weights; 0 outside of the frame.

    place: of the pixels that sample, to be broadcast against the flow; as many as the axis has.
    """
    size = place.numel()
    # Through the scale of grid_sample and back, so that positions are rounded as they are there.
    position_HW = (flow_HW + place).mul_(2 / max(size - 1, 1)).sub_(1).add_(1).mul_((size - 1) / 2)
    floor_HW = position_HW.floor()
    of_second = position_HW.sub_(floor_HW)
    # Clipped before it becomes an integer, which has a largest value, and after that, since NaN becomes some integer.
    first = floor_HW.clamp_(-2, size).int()
    of_first = (1 - of_second).mul_((first >= 0) & (first < size))
    of_second = of_second.mul_((first >= -1) & (first < size - 1))
    return first.clamp(0, size - 1), first.add_(1).clamp_(0, size - 1), of_first, of_second
