"""What networks have in common: runs of residual blocks, and the upsampler that ends the network."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.network import Network
from vsrprune.networks.parts.layers import ResidualBlock, enlarge, plain_conv, small_init


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """`count` residual blocks on a stream (N, channels, H, W)."""
    return nn.Sequential(
        *(
            ResidualBlock(small_init(plain_conv(channels, channels, 3)), small_init(plain_conv(channels, channels, 3)))
            for _ in range(count)
        )
    )


class ResidualTrunk(nn.Module):
    """A convolution, an activation and residual blocks."""

    def __init__(self, inputs: int, channels: int, blocks: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.first = plain_conv(inputs, channels, 3)
        self.blocks = residual_blocks(channels, blocks)

    def forward(self, input_NCHW: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, channels, H, W)."""
        output_NCHW: Tensor = self.blocks(F.leaky_relu_(self.first(input_NCHW), self.slope))
        return output_NCHW


class Upsampler(Network):
    """Base of networks that end in pixel shuffles and two convolutions, and add the bilinearly enlarged frame.

    The convolutions are members of the network itself, as in BasicSR: upconv1, upconv2, conv_hr, conv_last.
    """

    def __init__(self, arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments

    def add_upsampler(self) -> None:
        """Append its convolutions, which read `channels` features: last, so that modules stand in network order."""
        arguments = self.arguments
        width = arguments.channels
        for index, factor in enumerate(arguments.upscale_factors, start=1):
            last = index == len(arguments.upscale_factors)
            shuffled = arguments.upsampler_channels if last else width
            self.add_module(f"upconv{index}", plain_conv(width, shuffled, 3, filters_per_unit=factor**2))
            width = shuffled
        self.conv_hr = plain_conv(width, arguments.upsampler_channels, 3)
        self.conv_last = plain_conv(arguments.upsampler_channels, RGB, 3)

    def enlarge(self, features_NCHW: Tensor, frame_NCHW: Tensor) -> Tensor:
        """The output frame (N, 3, scale*H, scale*W), from the features (N, C, H, W) and the input frame."""
        detail_NCHW: Tensor = self.conv_last(self.upsampled(features_NCHW))
        return detail_NCHW.add_(enlarge(frame_NCHW, self.arguments.scale))

    def upsampled(self, features_NCHW: Tensor) -> Tensor:
        """What the last convolution reads (N, C, scale*H, scale*W)."""
        x_NCHW = features_NCHW
        for index, factor in enumerate(self.arguments.upscale_factors, start=1):
            x_NCHW = self.activate(F.pixel_shuffle(self.get_submodule(f"upconv{index}")(x_NCHW), factor))
        return self.activate(self.conv_hr(x_NCHW))

    def activate(self, x: Tensor) -> Tensor:
        """Leaky ReLU, in place."""
        return F.leaky_relu_(x, self.arguments.slope)
