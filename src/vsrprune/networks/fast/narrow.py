"""Convolutions to few channels on a CPU: several pixels of a row at a time, with the same numbers.

oneDNN computes sixteen output channels at once, used or not: a convolution to 8 channels takes as long as one to 16.
With a stride of 2 and kernels of 3x4, which hold the kernel at two places, it computes 2 pixels of 8 channels in the
place of one, and in channels_last these lie in memory as they should. On two cores at 180x320, from 64 channels to 8:
2.1 ms in place of 3.3; from 16 to 4, 4 pixels at a time, 0.5 in place of 0.9; to the 3 of a frame 36 in place of 61.
"""

from __future__ import annotations

from torch import Tensor

LANES = 16  # output channels that are computed at once
PIXELS = (1, 2, 4)  # at a time; widths that cannot be divided so are computed one by one


def pixels_at_once(outputs: int, kernel: int) -> int:
    """How many pixels of a row a convolution to so many channels computes at a time, to be the fastest."""
    if kernel == 1:  # which would only multiply by zeros
        return 1

    def work(pixels: int) -> float:
        lanes = -(-pixels * outputs // LANES) * LANES
        return lanes * (kernel + pixels - 1) / pixels

    # Of two that are equal the larger one was measured to be faster, at 24 channels by a seventh.
    return min(reversed(PIXELS), key=work)


def along_rows(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (O, I, k, k) and bias for as many pixels at a time as are the fastest: (p*O, I, k, k+p-1) and (p*O,)."""
    outputs, inputs, kernel, _ = weight.shape
    pixels = pixels_at_once(outputs, kernel)
    if pixels == 1:
        return weight, bias
    kernels = weight.new_zeros(pixels, outputs, inputs, kernel, kernel + pixels - 1)
    for place in range(pixels):
        kernels[place, ..., place : place + kernel] = weight
    return kernels.flatten(0, 1), bias.repeat(pixels)


def pixels_of(weight: Tensor) -> int:
    """How many pixels a weight that `along_rows` made computes at a time."""
    height, width = weight.shape[-2:]
    return width - height + 1


def one_by_one(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The weight and bias that `along_rows` was given."""
    outputs, kernel = len(weight) // pixels_of(weight), weight.shape[-2]
    return weight[:outputs, ..., :kernel], None if bias is None else bias[:outputs]


def spread_out(pixels_NCHW: Tensor, pixels: int) -> Tensor:
    """The output (N, p*O, H, W/p) of such a convolution as (N, O, H, W): a view in channels_last."""
    batch, channels, height, width = pixels_NCHW.shape
    rows = pixels_NCHW.permute(0, 2, 3, 1).reshape(batch, height, width * pixels, channels // pixels)
    return rows.permute(0, 3, 1, 2)
