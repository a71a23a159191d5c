"""EDSR (Lim et al., CVPRW 2017) and RCAN (Zhang et al., ECCV 2018): every frame is an image by itself."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.channels.layout import ChannelLayout
from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.edsr_rcan.spec import EDSRArguments, RCANArguments, edsr_layout, rcan_layout
from vsrprune.networks.network import Flows, FrameOutput, Network, VSROutput
from vsrprune.networks.parts.layers import ResidualBlock, plain_conv, small_init

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's pictures, RGB in [0, 1]
RANGE = 255.0  # published networks work on pictures in [0, 255]


class ImageNetwork(Network):
    """A trunk of residual blocks, and pixel shuffles without activation; frames are restored one by one.

    A subclass fills `body`, then calls `add_end`.
    """

    mean: Tensor

    def __init__(self, arguments: EDSRArguments | RCANArguments) -> None:
        super().__init__()
        self.arguments = arguments
        # A constant that is no part of a network's weights, so it stays out of the state dict.
        self.register_buffer("mean", torch.tensor(MEAN).view(1, RGB, 1, 1), persistent=False)
        self.conv_first = plain_conv(RGB, arguments.channels, 3)
        self.body = nn.Sequential()

    def add_end(self) -> None:
        """Append what follows the body, and gates."""
        channels = self.arguments.channels
        self.conv_after_body = plain_conv(channels, channels, 3)
        for index, factor in enumerate(self.arguments.upscale_factors, start=1):
            self.add_module(f"upconv{index}", plain_conv(channels, channels, 3, filters_per_unit=factor**2))
        self.conv_last = plain_conv(channels, RGB, 3)
        self.add_gates()

    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> VSROutput:
        """Restore frames one by one; see Network. There are no hidden states."""
        batch, length = frames_NTCHW.shape[:2]
        images_NCHW = self._restore(frames_NTCHW.flatten(0, 1))
        return VSROutput(torch.unflatten(images_NCHW, 0, (batch, length)), {})

    def frame_by_frame(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[FrameOutput]:
        """See Network."""
        for frame_NCHW in frames_NTCHW.unbind(1):
            yield FrameOutput(self._restore(frame_NCHW), {})

    def _restore(self, images_NCHW: Tensor) -> Tensor:
        # Published weights expect pictures in [0, 255] less DIV2K's mean; ours are in [0, 1].
        first_NCHW = self.conv_first((images_NCHW - self.mean) * RANGE)
        x_NCHW = first_NCHW + self.conv_after_body(self.body(first_NCHW))
        for index, factor in enumerate(self.arguments.upscale_factors, start=1):
            x_NCHW = F.pixel_shuffle(self.get_submodule(f"upconv{index}")(x_NCHW), factor)
        restored_NCHW: Tensor = self.conv_last(x_NCHW) / RANGE + self.mean
        return restored_NCHW


class EDSR(ImageNetwork):
    """Residual blocks one after the other."""

    def __init__(self, arguments: EDSRArguments) -> None:
        super().__init__(arguments)
        self.body.extend(
            ResidualBlock(*_convs(arguments.channels), scale=arguments.residual_scale) for _ in range(arguments.blocks)
        )
        self.add_end()

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule (rsc, aligned, inner)."""
        return edsr_layout(self.arguments, rule)


class RCAN(ImageNetwork):
    """Residual groups of residual blocks with channel attention."""

    def __init__(self, arguments: RCANArguments) -> None:
        super().__init__(arguments)
        self.body.extend(ResidualGroup(arguments) for _ in range(arguments.groups))
        self.add_end()

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule (rsc, aligned, inner)."""
        return rcan_layout(self.arguments, rule)


class ResidualGroup(nn.Module):
    """x + conv(blocks(x))."""

    def __init__(self, arguments: RCANArguments) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(AttentiveBlock(arguments.channels, arguments.squeezed) for _ in range(arguments.blocks))
        )
        self.conv = small_init(plain_conv(arguments.channels, arguments.channels, 3))

    def forward(self, stream_NCHW: Tensor) -> Tensor:
        """Map the stream (N, C, H, W) to a new one of the same shape."""
        output_NCHW: Tensor = stream_NCHW + self.conv(self.blocks(stream_NCHW))
        return output_NCHW


class AttentiveBlock(ResidualBlock):
    """A residual block whose update's channels are weighed by their means over the frame (RCAN, section 3.3)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__(*_convs(channels))
        self.squeeze, self.excite = plain_conv(channels, squeezed, 1), plain_conv(squeezed, channels, 1)

    def refine(self, update_NCHW: Tensor) -> Tensor:
        """The update times its channels' weights in (0, 1)."""
        mean_NC11 = update_NCHW.mean(dim=(-2, -1), keepdim=True)
        weighed_NCHW: Tensor = update_NCHW * self.excite(F.relu_(self.squeeze(mean_NC11))).sigmoid()
        return weighed_NCHW


def _convs(channels: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    return small_init(plain_conv(channels, channels, 3)), small_init(plain_conv(channels, channels, 3))
