"""Layers shared by the networks: convolutions with scaling factors, residual blocks, warping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.networks.parts.folding import Folded, Gated

RESIDUAL_INIT = 0.1  # with the usual initialisation a small network trains to below bicubic


class GatedConv2d(nn.Conv2d, Gated):
    """A same-padded convolution whose channels carry learned scaling factors: y = gate * (W * (input_gate x) + b).

    Video super-resolution networks have no batch norm, so channels get a factor of their own, initialised to 1
    (arXiv 2206.07687, section 3.2). The factors multiply weight and bias instead of the feature maps: the same
    function, at no cost per pixel.

    filters_per_unit: consecutive filters that share one factor (r*r before a pixel shuffle).
    gated_inputs: one more factor per input channel. groups: 1, or depthwise as many as there are channels.
    """

    bias: nn.Parameter

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        filters_per_unit: int = 1,
        gated_inputs: bool = False,
        *,
        groups: int = 1,
    ) -> None:
        super().__init__(inputs, outputs * filters_per_unit, kernel, padding=kernel // 2, groups=groups)
        self.filters_per_unit = filters_per_unit
        self.gate = nn.Parameter(torch.ones(outputs))
        self.input_gate = nn.Parameter(torch.ones(inputs)) if gated_inputs else None

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, filters_per_unit: int = 1, gated_inputs: bool = False) -> GatedConv2d:
        """The same convolution with gates of 1. Raises ValueError for one that is not same-padded, or has no bias."""
        kernel = conv.kernel_size[0]
        if conv.kernel_size != (kernel, kernel) or conv.padding != (kernel // 2, kernel // 2) or conv.bias is None:
            raise ValueError(f"only square, same-padded convolutions with a bias carry gates; got {conv}")
        units = conv.out_channels // filters_per_unit
        gated = cls(conv.in_channels, units, kernel, filters_per_unit, gated_inputs, groups=conv.groups)
        gated.stride = conv.stride
        # Not strict: the gates keep their ones.
        gated.to(conv.weight).load_state_dict({"weight": conv.weight, "bias": conv.bias}, strict=False)
        return gated

    def folded(self) -> Folded:
        """Weight (out, in, k, k) and bias (out,) with the gates multiplied in."""
        gate: Tensor = self.gate
        if self.filters_per_unit > 1:
            gate = gate.repeat_interleave(self.filters_per_unit)
        weight = self.weight * gate.view(-1, 1, 1, 1)
        if self.input_gate is not None:
            weight = weight * self.input_gate.view(1, -1, 1, 1)
        return weight, self.bias * gate

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, in, H, W) to (N, out, H, W)."""
        weight, bias = self.present()
        return F.conv2d(input, weight, bias, self.stride, self.padding, groups=self.groups)


def plain_conv(inputs: int, outputs: int, kernel: int, filters_per_unit: int = 1, groups: int = 1) -> nn.Conv2d:
    """The ungated counterpart of GatedConv2d, for networks whose gates are folded away."""
    return nn.Conv2d(inputs, outputs * filters_per_unit, kernel, padding=kernel // 2, groups=groups)


def small_init(conv: nn.Conv2d) -> nn.Conv2d:
    """`conv` itself, at RESIDUAL_INIT times Kaiming's initialisation and without bias: for residual blocks."""
    nn.init.kaiming_normal_(conv.weight)
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.mul_(RESIDUAL_INIT)
        conv.bias.zero_()
    return conv


class ResidualBlock(nn.Module):
    """x + scale * conv2(relu(conv1(x))); conv1 may read, and conv2 may write, only some channels of the stream.

    read, written: positions in the stream, or None for all of them. With both given this is the Residual Sparsity
    Connection: nothing has to align, because the stream keeps all its channels. width: channels of the stream.
    """

    read: Tensor | None
    written: Tensor | None

    def __init__(
        self,
        conv1: nn.Conv2d,
        conv2: nn.Conv2d,
        read: Sequence[int] | None = None,
        written: Sequence[int] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv1, self.conv2, self.scale, self.width = conv1, conv2, scale, conv1.in_channels
        # The plan is stored beside the weights, so the indices are derived and stay out of the state dict.
        self.register_buffer("read", None, persistent=False)
        self.register_buffer("written", None, persistent=False)
        self.restrict(read, written)

    def restrict(self, read: Sequence[int] | None = None, written: Sequence[int] | None = None) -> None:
        """Read, or write, only these channels from now on; None changes nothing."""
        if read is not None:
            self.read = torch.tensor(read)
        if written is not None:
            self.written = torch.tensor(written)

    def forward(self, stream_NCHW: Tensor) -> Tensor:
        """Map the stream (N, C, H, W) to a new stream of the same shape; the input is left as it was."""
        read_NCHW = stream_NCHW if self.read is None else stream_NCHW.index_select(1, self.read)
        update_NCHW = self.refine(self.conv2(F.relu_(self.conv1(read_NCHW))))
        if self.written is None:
            return update_NCHW.add_(stream_NCHW)  # a convolution's output is not needed by its backward
        return stream_NCHW.index_add(1, self.written, update_NCHW)

    def refine(self, update_NCHW: Tensor) -> Tensor:
        """What a kind of block does to its update before it is added."""
        return update_NCHW if self.scale == 1 else update_NCHW * self.scale


def enlarge(frame_NCHW: Tensor, scale: int) -> Tensor:
    """A frame (N, 3, H, W) bilinearly at (N, 3, scale*H, scale*W), what a network's detail is added to; itself at 1."""
    if scale == 1:
        return frame_NCHW
    return F.interpolate(frame_NCHW, scale_factor=float(scale), mode="bilinear", align_corners=False)


def warp(input_NCHW: Tensor, flow_N2HW: Tensor, padding_mode: str = "zeros") -> Tensor:
    """Sample `input_NCHW` at each pixel's position plus its flow (x, y; pixels), bilinearly, corners aligned."""
    height, width = input_NCHW.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=flow_N2HW.dtype, device=flow_N2HW.device),
        torch.arange(width, dtype=flow_N2HW.dtype, device=flow_N2HW.device),
        indexing="ij",
    )
    grid_NHW2 = torch.stack(
        (
            # A frame of one pixel has a single position, at which any finite scale will do.
            (x + flow_N2HW[:, 0]) * (2 / max(width - 1, 1)) - 1,
            (y + flow_N2HW[:, 1]) * (2 / max(height - 1, 1)) - 1,
        ),
        dim=-1,
    )
    # In the flow's precision: sixteen bits are too few for a position, off by pixels on a wide frame.
    sampled_NCHW = F.grid_sample(
        input_NCHW.to(grid_NHW2.dtype), grid_NHW2, mode="bilinear", padding_mode=padding_mode, align_corners=True
    )
    return sampled_NCHW.to(input_NCHW.dtype)
