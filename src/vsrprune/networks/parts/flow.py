"""SPyNet (Ranjan and Black, CVPR 2017): optical flow by a pyramid of small convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.networks.parts.layers import warp

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SPyNet(nn.Module):
    """Flow from a reference frame to a supporting one. Defaults are the published network (1,440,300 parameters).

    Each level reads the reference, the supporting frame warped by the coarser flow, and that flow (8 channels), and
    adds a correction. Last convolutions start at zero: an untrained pyramid says "no motion" instead of noise.

    skipped: so many of the finest of its `levels` are left out, and the flow of the finest that is left is enlarged.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, levels: int = 6, kernel: int = 7, widths: Sequence[int] = (32, 64, 32, 16), skipped: int = 0
    ) -> None:
        super().__init__()
        self.convs = len(widths) + 1  # of a level
        self.skipped = skipped
        self.levels = nn.ModuleList(_flow_level(kernel, widths) for _ in range(levels - skipped))
        # Constants, which stay out of the state dict: published files hold them under names of their own.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, reference_NCHW: Tensor, supporting_NCHW: Tensor) -> Tensor:
        """Flow (N, 2, H, W), x then y, in pixels; frames are RGB in [0, 1] of any size."""
        height, width = reference_NCHW.shape[-2:]
        multiple = 2 ** (len(self.levels) + self.skipped - 1)
        # Rounded up without ceil, and without a case for sizes that fit: an exported graph must serve every size.
        size = tuple((side + multiple - 1) // multiple * multiple for side in (height, width))
        references, supports = self._pyramid(reference_NCHW, size), self._pyramid(supporting_NCHW, size)
        coarse_NCHW = references[0]
        flow_N2HW = coarse_NCHW.new_zeros(coarse_NCHW.shape[0], 2, *coarse_NCHW.shape[-2:])
        for index, level in enumerate(self.levels):
            if index > 0:
                # Twice the flow, since a pixel of the coarser level is two of this one.
                flow_N2HW = 2 * F.interpolate(flow_N2HW, scale_factor=2.0, mode="bilinear", align_corners=True)
            warped_NCHW = warp(supports[index], flow_N2HW, padding_mode="border")
            flow_N2HW = flow_N2HW + level(torch.cat((references[index], warped_NCHW, flow_N2HW), dim=1))
        flow_N2HW = F.interpolate(flow_N2HW, size=(height, width), mode="bilinear", align_corners=False)
        # From pixels of the padded size, or of that of the finest level that is left, to those of the frame, whose two
        # sides were stretched differently.
        finest = 2**self.skipped
        across, down = finest * width / size[1], finest * height / size[0]
        return torch.stack((flow_N2HW[:, 0] * across, flow_N2HW[:, 1] * down), dim=1)

    def _pyramid(self, frame_NCHW: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """Normalised frame, resized to `size`, at every level that is left, coarsest first."""
        frame_NCHW = F.interpolate(frame_NCHW, size=size, mode="bilinear", align_corners=False)
        pyramid = [(frame_NCHW - self.mean) / self.std]
        for _ in range(len(self.levels) + self.skipped - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], kernel_size=2, stride=2, count_include_pad=False))
        return pyramid[self.skipped :][::-1]


def clip_flows(flow_net: nn.Module, frames_NTCHW: Tensor, directions: Sequence[str]) -> dict[str, Tensor]:
    """Flows (N, T-1, 2, H, W) by direction: `backward` from frame t to t+1 at place t, `forward` from t+1 to t.

    That is from each frame to the neighbour that was seen before it, whose features are warped to it.
    """
    batch, length, channels, height, width = frames_NTCHW.shape
    earlier = frames_NTCHW[:, :-1].reshape(-1, channels, height, width)
    later = frames_NTCHW[:, 1:].reshape(-1, channels, height, width)
    pairs = {"backward": (earlier, later), "forward": (later, earlier)}
    shape = (batch, length - 1, 2, height, width)
    # A single frame has no neighbour, and an empty batch would still run through the pyramid.
    if length == 1:
        return {direction: frames_NTCHW.new_zeros(shape) for direction in directions}
    return {direction: flow_net(*pairs[direction]).view(shape) for direction in directions}


def _flow_level(kernel: int, widths: Sequence[int]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise((8, *widths, 2)):
        modules += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
    last = modules[-2]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*modules[:-1])
