"""What networks have in common: runs of residual blocks, and the upsampler that ends the network."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.networks.network import Network
from vsrprune.networks.parts.layers import ResidualBlock, enlarge, plain_conv, small_init
from vsrprune.networks.parts.upsamplers.step import UpsamplingStep
from vsrprune.networks.parts.upsamplers.table import upsampler_steps


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
    """Base of networks that end in the steps of an upsampler, and add the bilinearly enlarged frame.

    The convolutions are members of the network itself, as in BasicSR: upconv1, upconv2, conv_hr, conv_last.
    """

    steps: tuple[UpsamplingStep, ...]

    def __init__(self, arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments

    def add_upsampler(self) -> None:
        """Append its convolutions, which read `channels` features: last, so that modules stand in network order."""
        self.steps, width = upsampler_steps(self.arguments), self.arguments.channels
        for step in self.steps:
            groups = width if step.depthwise else 1
            self.add_module(step.name, plain_conv(width, step.width, step.kernel, step.shuffle**2, groups))
            width = step.width

    def enlarge(self, features_NCHW: Tensor, frame_NCHW: Tensor) -> Tensor:
        """The output frame (N, 3, scale*H, scale*W), from the features (N, C, H, W) and the input frame."""
        return self.detail(self.upsampled(features_NCHW)).add_(enlarge(frame_NCHW, self.arguments.scale))

    def upsampled(self, features_NCHW: Tensor) -> Tensor:
        """What the last step reads."""
        x_NCHW = features_NCHW
        for step in self.steps[:-1]:
            x_NCHW = self.activate(self._stepped(x_NCHW, step))
        return x_NCHW

    def detail(self, x_NCHW: Tensor) -> Tensor:
        """What the last step adds to the enlarged frame (N, 3, scale*H, scale*W)."""
        return self._stepped(x_NCHW, self.steps[-1])

    def _stepped(self, x_NCHW: Tensor, step: UpsamplingStep) -> Tensor:
        y_NCHW: Tensor = self.get_submodule(step.name)(repeated(x_NCHW, step.nearest))
        return y_NCHW if step.shuffle == 1 else F.pixel_shuffle(y_NCHW, step.shuffle)

    def activate(self, x: Tensor) -> Tensor:
        """Leaky ReLU, in place."""
        return F.leaky_relu_(x, self.arguments.slope)


def repeated(x_NCHW: Tensor, factor: int) -> Tensor:
    """Every pixel `factor` times along both sides."""
    return x_NCHW if factor == 1 else F.interpolate(x_NCHW, scale_factor=float(factor), mode="nearest")
