"""Convolutions to few channels, such as the last one to a frame, on a CPU: pixels of 2x2 at a time."""

from __future__ import annotations

import itertools
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

# Of sixteen channels that a convolution computes at once, one to three channels use three: it takes as long as one to
# sixteen. Kernels of 4x4 with a stride of 2 compute the three channels of 2x2 pixels, and three quarters are used. On
# two cores at 1280x720, the shuffle behind it counted: from 64 channels 36 ms in place of 63, from 16 9 in place of 15.
FEW = 4
KERNEL = 3


class FewOutputs(nn.Module):
    """A same-padded convolution of 3x3 to `FEW` channels or fewer; what it computes stays the same."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("weight", of_four(conv.weight.detach()))
        self.register_buffer("bias", cast(Tensor, conv.bias).detach().repeat(4))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, I, H, W) to (N, O, H, W)."""
        height, width = x_NCHW.shape[-2:]
        if height % 2 or width % 2:
            outputs_NCHW: Tensor = self.conv(x_NCHW)
            return outputs_NCHW
        return four_at_once(x_NCHW, self.weight, self.bias)


def fits(weight: Tensor) -> bool:
    """Whether a convolution by this weight (O, I, k, k), that reads I channels, is faster so."""
    return len(weight) <= FEW and weight.shape[-2:] == (KERNEL, KERNEL)


def of_four(weight: Tensor) -> Tensor:
    """Kernels (O, I, 3, 3) as those of each of 2x2 pixels, (4*O, I, 4, 4): pixel by pixel, row by row."""
    outputs, inputs = weight.shape[:2]
    kernels = weight.new_zeros(2, 2, outputs, inputs, KERNEL + 1, KERNEL + 1)
    for down, right in itertools.product(range(2), range(2)):
        kernels[down, right, :, :, down : down + KERNEL, right : right + KERNEL] = weight
    return kernels.view(4 * outputs, inputs, KERNEL + 1, KERNEL + 1)


def four_at_once(x_NCHW: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution (N, O, H, W) of frames of even height and width, by kernels that `of_four` made."""
    batch, _, height, width = x_NCHW.shape
    pixels_NHWC = F.conv2d(x_NCHW, weight, bias, stride=2, padding=1).permute(0, 2, 3, 1)
    rows = pixels_NHWC.reshape(batch, height // 2, width // 2, 2, -1).permute(0, 1, 3, 2, 4)
    return rows.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
