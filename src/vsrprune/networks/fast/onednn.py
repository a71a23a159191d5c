"""oneDNN's convolution with what follows it, in the same pass over memory.

These are operations that PyTorch's compiler calls, so that their names may change; `fused.available` tries them first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrprune.networks.fast import narrow
from vsrprune.networks.fast.kernels import BY_TORCH, Kernels, shuffled_runs

TYPES = (torch.float32, torch.bfloat16)


class OneDNN(Kernels):
    """PyTorch's own, but that a convolution takes along its leaky ReLU, and the addition to all of a stream.

    Convolutions to few channels make several pixels at a time; see `narrow`.
    """

    def prepared(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """See `Kernels`."""
        return narrow.along_rows(weight, bias)

    def conv(self, x_NCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Kernels`."""
        return _of_rows(_plain, x_NCHW, weight, bias)

    def conv_add_(self, stream_NCHW: Tensor, x_NCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Kernels`."""
        if not _takes(x_NCHW):
            return super().conv_add_(stream_NCHW, x_NCHW, weight, bias)
        added = torch.ops.mkldnn._convolution_pointwise_.binary
        pad = weight.shape[-1] // 2
        arguments = x_NCHW, weight, bias, [pad, pad], [1, 1], [1, 1], x_NCHW.shape[1] // weight.shape[1]
        summed_NCHW: Tensor = added(stream_NCHW, *arguments, "add", 1.0, None, [], None)
        return summed_NCHW

    def conv_leaky(self, x_NCHW: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
        """See `Kernels`."""
        if not _takes(x_NCHW):
            return super().conv_leaky(x_NCHW, weight, bias, slope)
        return _activated(x_NCHW, weight, bias, "leaky_relu", [slope])

    def conv_shuffle(self, x_NCHW: Tensor, weight: Tensor, bias: Tensor, factor: int, slope: float) -> Tensor:
        """See `Kernels`."""
        return self.shuffle(self.conv_leaky(x_NCHW, weight, bias, slope), bias, factor, slope)


def offers(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there, in use, and has kernels of this type for this processor."""
    library = torch.backends.mkldnn
    if dtype not in TYPES or not (library.is_available() and library.enabled):
        return False
    return dtype is not torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _takes(x_NCHW: Tensor) -> bool:
    # What is being compiled as a whole is joined by the compiler itself.
    return x_NCHW.dtype in TYPES and x_NCHW.device.type == "cpu" and not torch.compiler.is_compiling()


def _activated(x_NCHW: Tensor, weight: Tensor, bias: Tensor | None, name: str, numbers: list[float]) -> Tensor:
    activated = torch.ops.mkldnn._convolution_pointwise.default
    return _of_rows(lambda *given: activated(*given, name, numbers, ""), x_NCHW, weight, bias)


def _of_rows(convolve: Callable[..., Tensor], x_NCHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A same-padded convolution by a weight of either form.

    convolve: (x, weight, bias, padding, stride, dilation, groups).
    """
    pixels = narrow.pixels_of(weight)
    if x_NCHW.shape[-1] % pixels:
        (weight, bias), pixels = narrow.one_by_one(weight, bias), 1
    pad, groups = weight.shape[-2] // 2, x_NCHW.shape[1] // weight.shape[1]
    pixels_NCHW = convolve(x_NCHW, weight, bias, [pad, pad], [1, pixels], [1, 1], groups)
    return pixels_NCHW if pixels == 1 else narrow.spread_out(pixels_NCHW, pixels)


def _plain(x_NCHW: Tensor, weight: Tensor, bias: Tensor | None, *place: Any) -> Tensor:
    padding, stride, dilation, groups = place
    return F.conv2d(x_NCHW, weight, bias, stride, padding, dilation, groups)


def _conv_relu(x_NCHW: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if not _takes(x_NCHW):
        return F.relu_(BY_ONEDNN.conv(x_NCHW, weight, bias))
    return _activated(x_NCHW, weight, bias, "relu", [])


def _shuffle_activated(update_NCHW: Tensor, bias: Tensor, factor: int, slope: float) -> Tensor:
    # Runs of channels are moved: a shuffle of 32 filters takes 3.9 ms at 640x360, one by one 7.8, on one core.
    return shuffled_runs(update_NCHW.permute(0, 2, 3, 1).contiguous(), factor).permute(0, 3, 1, 2)


BY_ONEDNN = OneDNN(
    _conv_relu,
    BY_TORCH.leaky,
    _shuffle_activated,
    BY_TORCH.add_,
    BY_TORCH.scatter_,
    BY_TORCH.gather,
    bare=False,
    ordered=True,
)
