"""Convolutions of frozen networks with what follows them, by PyTorch's own operations; `fused.py` has other ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Kernels:
    """Same-padded convolutions of x (N, I, H, W) by a weight (O, I/groups, k, k), and what follows them.

    conv_relu: (x, weight, bias). leaky: (update, bias, slope). shuffle: (update, bias, factor, slope), a pixel shuffle
    and a leaky ReLU. add_: (stream, update, bias). scatter_: (stream, update, bias, channels, place) adds to `channels`
    (K,) of the stream; see `fused.placed`. Both work in place and return the stream. gather: (stream, channels).

    oneDNN's `shuffle` only moves: its convolutions activate.

    bare: what follows a convolution adds the bias. Otherwise the convolution adds it, and what follows does not look at
    the bias. ordered: what is shuffled has its filters in `fused.shuffle_order`.
    """

    conv_relu: Callable[[Tensor, Tensor, Tensor], Tensor]
    leaky: Callable[[Tensor, Tensor, float], Tensor]
    shuffle: Callable[[Tensor, Tensor, int, float], Tensor]
    add_: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    scatter_: Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor], Tensor]
    gather: Callable[[Tensor, Tensor], Tensor]
    bare: bool
    ordered: bool

    def prepared(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (O, I, k, k) and bias of a convolution in one group, in a form in which these kernels may be faster.

        All but `conv_add_` take either form.
        """
        return weight, bias

    def conv(self, x_NCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution, for `add_` and the like to go on with."""
        return convolved(x_NCHW, weight, None if self.bare else bias)

    def conv_add_(self, stream_NCHW: Tensor, x_NCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Add a convolution to all of a stream, in place; returns the stream."""
        return self.add_(stream_NCHW, self.conv(x_NCHW, weight, bias), bias)

    def conv_leaky(self, x_NCHW: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        """A convolution and a leaky ReLU."""
        return self.leaky(self.conv(x_NCHW, weight, bias), bias, slope)

    def conv_shuffle(self, x_NCHW: Tensor, weight: Tensor, bias: Tensor, factor: int, slope: float) -> Tensor:
        """A convolution, a pixel shuffle and a leaky ReLU."""
        return self.shuffle(self.conv(x_NCHW, weight, bias), bias, factor, slope)


def convolved(x_NCHW: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A same-padded convolution, in as many groups as the weight's inputs leave."""
    return F.conv2d(x_NCHW, weight, bias, padding=weight.shape[-1] // 2, groups=x_NCHW.shape[1] // weight.shape[1])


def shuffled_runs(x_NHWF: Tensor, factor: int) -> Tensor:
    """The pixel shuffle (N, factor*H, factor*W, C) of filters in `fused.shuffle_order`: runs of channels are moved."""
    batch, height, width, filters = x_NHWF.shape
    split = x_NHWF.view(batch, height, width, factor, factor, filters // factor**2)
    return split.permute(0, 1, 3, 2, 4, 5).reshape(batch, height * factor, width * factor, filters // factor**2)


# PyTorch's own. Gathering and scattering are written for each memory format, since what is fast in one is ten times
# slower in the other.


def is_channels_last(x_NCHW: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side in memory."""
    # A tensor of one channel is contiguous in both formats, and is treated as one of the plain format.
    return x_NCHW.is_contiguous(memory_format=torch.channels_last) and not x_NCHW.is_contiguous()


def gather(stream_NCHW: Tensor, channels: Tensor) -> Tensor:
    """The stream's `channels`, copied, in its memory format."""
    if is_channels_last(stream_NCHW):
        # Indexing the last axis of memory, where the channels of a pixel lie side by side.
        return stream_NCHW.permute(0, 2, 3, 1)[..., channels].permute(0, 3, 1, 2)
    return stream_NCHW.index_select(1, channels)


def scatter_(stream_NCHW: Tensor, channels: Tensor, update_NCHW: Tensor) -> Tensor:
    """Add `update` to the stream's `channels`, in place; returns the stream."""
    if is_channels_last(stream_NCHW):
        # 32 of 64 channels at 180x320: index_add_ over dimension 1 takes 4.9 ms, over the last one, as here, 0.6.
        stream_NCHW.permute(0, 2, 3, 1).index_add_(3, channels, update_NCHW.permute(0, 2, 3, 1))
        return stream_NCHW
    return stream_NCHW.index_add_(1, channels, update_NCHW)


def _conv_relu(x_NCHW: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.relu_(convolved(x_NCHW, weight, bias))


def _leaky(update_NCHW: Tensor, bias: Tensor, slope: float) -> Tensor:
    return F.leaky_relu_(update_NCHW, slope)


def _shuffle(update_NCHW: Tensor, bias: Tensor, factor: int, slope: float) -> Tensor:
    return F.leaky_relu_(F.pixel_shuffle(update_NCHW, factor), slope)


def _add_(stream_NCHW: Tensor, update_NCHW: Tensor, bias: Tensor | None) -> Tensor:
    return stream_NCHW.add_(update_NCHW)


def _scatter_(stream_NCHW: Tensor, update_NCHW: Tensor, bias: Tensor | None, channels: Tensor, place: Tensor) -> Tensor:
    return scatter_(stream_NCHW, channels, update_NCHW)


BY_TORCH = Kernels(_conv_relu, _leaky, _shuffle, _add_, _scatter_, gather, bare=False, ordered=False)
