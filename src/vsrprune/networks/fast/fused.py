"""Convolutions of frozen networks with what follows them: by PyTorch's own operations, or in fewer kernels.

On a CUDA device PyTorch adds a convolution's bias by a kernel of its own, and what follows is another: each reads and
writes all of a feature map, which takes as long as a narrow convolution does. On a CPU the activation and the addition
to a stream are such steps, and oneDNN takes them along. `KERNELS` holds the same functions in several ways; which is
the fastest is found by timing, and only those are tried that `available` found to be right.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.networks.fast import onednn
from vsrprune.networks.fast.kernels import BY_TORCH, Kernels, convolved, shuffled_runs
from vsrprune.networks.fast.onednn import BY_ONEDNN

PLAIN = "plain"
ONEDNN = "onednn"


def shuffle_order(filters: int, factor: int) -> list[int]:
    """Filters of a convolution before a pixel shuffle, those of one place in the enlarged pixel side by side.

    So ordered, what a shuffle moves are runs of channels instead of single ones.
    """
    squared = factor**2
    return [unit * squared + place for place in range(squared) for unit in range(filters // squared)]


def reorder_filters(conv: nn.Conv2d, factor: int) -> None:
    """Put the filters of a convolution before a pixel shuffle into `shuffle_order`."""
    order = shuffle_order(conv.out_channels, factor)
    conv.weight = nn.Parameter(conv.weight.detach()[order], requires_grad=False)
    conv.bias = nn.Parameter(cast(Tensor, conv.bias).detach()[order], requires_grad=False)


def placed(channels: Sequence[int], size: int) -> Tensor:
    """Where each of `size` channels stands among `channels`; -1 for those that are not."""
    place = torch.full((size,), -1)
    place[list(channels)] = torch.arange(len(channels))
    return place


# cuDNN's convolution with bias and ReLU


def _cudnn_conv_relu(x_NCHW: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return BY_TORCH.conv_relu(x_NCHW, weight, bias)  # torch.compile does not know cuDNN's
    pad = weight.shape[-1] // 2
    groups = x_NCHW.shape[1] // weight.shape[1]
    return torch.cudnn_convolution_relu(x_NCHW, weight, bias, (1, 1), (pad, pad), (1, 1), groups)


# Bias and what follows in one kernel, by torch.compile. The functions see pixels (P, C) whose channels lie side by
# side, as in channels_last, so that one compiled kernel serves every size; on other tensors they are right, but slow.


def bias_leaky(x_PC: Tensor, bias_C: Tensor, slope: float) -> Tensor:
    """Leaky ReLU of x + bias."""
    return F.leaky_relu(x_PC + bias_C, slope)


def bias_shuffle(x_NHWF: Tensor, bias_F: Tensor, factor: int, slope: float) -> Tensor:
    """Leaky ReLU of the pixel shuffle of x + bias, (N, factor*H, factor*W, C); F is factor**2 * C, pixel-major."""
    return shuffled_runs(F.leaky_relu(x_NHWF + bias_F, slope), factor)


def bias_add_(stream_PC: Tensor, update_PC: Tensor, bias_C: Tensor | None) -> Tensor:
    """Add update + bias to the stream, in place."""
    return stream_PC.add_(update_PC if bias_C is None else update_PC + bias_C)


def bias_scatter_(stream_PC: Tensor, update_PK: Tensor, bias_K: Tensor | None, place_C: Tensor) -> Tensor:
    """Add update + bias, whose channel `place` belongs to a channel of the stream, in place; -1: none does."""
    # All of the stream is written, which lies in one piece: index_add_ writes here and there, with atomics.
    source_C = place_C.clamp(min=0)
    update_PC = update_PK[:, source_C]
    if bias_K is not None:
        update_PC = update_PC + bias_K[source_C]
    return stream_PC.add_(torch.where(place_C >= 0, update_PC, 0))


def gathered(stream_PC: Tensor, channels_K: Tensor) -> Tensor:
    """The stream's channels."""
    return stream_PC[:, channels_K]


@functools.cache
def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function through torch.compile, for tensors of any size."""
    return torch.compile(function, dynamic=True)


def _run(function: Callable[..., Tensor], *inputs: object) -> Tensor:
    # What is being compiled as a whole takes the function as it is.
    if torch.compiler.is_compiling():
        return function(*inputs)
    # torch.compile takes the sizes of parameters for constants: it would compile for every width, and soon give up.
    return compiled(function)(*(x.detach() if isinstance(x, nn.Parameter) else x for x in inputs))


def _pixels(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.permute(0, 2, 3, 1).flatten(0, 2)


def _image(x_PC: Tensor, like_NCHW: Tensor) -> Tensor:
    batch, _, height, width = like_NCHW.shape
    return x_PC.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _compiled_conv_relu(x_NCHW: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _compiled_leaky(convolved(x_NCHW, weight), bias, 0.0)


def _compiled_leaky(update_NCHW: Tensor, bias: Tensor, slope: float) -> Tensor:
    return _image(_run(bias_leaky, _pixels(update_NCHW), bias, slope), update_NCHW)


def _compiled_shuffle(update_NCHW: Tensor, bias: Tensor, factor: int, slope: float) -> Tensor:
    update_NHWF = update_NCHW.permute(0, 2, 3, 1).contiguous()
    return _run(bias_shuffle, update_NHWF, bias, factor, slope).permute(0, 3, 1, 2)


def _compiled_add_(stream_NCHW: Tensor, update_NCHW: Tensor, bias: Tensor | None) -> Tensor:
    return _written(_run(bias_add_, _pixels(stream_NCHW), _pixels(update_NCHW), bias), stream_NCHW)


def _compiled_scatter_(
    stream_NCHW: Tensor, update_NCHW: Tensor, bias: Tensor | None, channels: Tensor, place: Tensor
) -> Tensor:
    return _written(_run(bias_scatter_, _pixels(stream_NCHW), _pixels(update_NCHW), bias, place), stream_NCHW)


def _compiled_gather(stream_NCHW: Tensor, channels: Tensor) -> Tensor:
    return _image(_run(gathered, _pixels(stream_NCHW), channels), stream_NCHW)


def _written(pixels_PC: Tensor, stream_NCHW: Tensor) -> Tensor:
    """The stream, after its pixels were changed: a view of it in channels_last, else a copy that has to be written."""
    if not stream_NCHW.is_contiguous(memory_format=torch.channels_last):
        stream_NCHW.copy_(_image(pixels_PC, stream_NCHW))
    return stream_NCHW


_BY_COMPILER = Kernels(
    _compiled_conv_relu,
    _compiled_leaky,
    _compiled_shuffle,
    _compiled_add_,
    _compiled_scatter_,
    _compiled_gather,
    bare=True,
    ordered=True,
)
KERNELS = {
    PLAIN: BY_TORCH,
    ONEDNN: BY_ONEDNN,
    "cudnn": replace(BY_TORCH, conv_relu=_cudnn_conv_relu),
    "compiled": _BY_COMPILER,
    "compiled, cudnn": replace(_BY_COMPILER, conv_relu=_cudnn_conv_relu),
}


# What works where


@functools.cache
def available(device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    """Names of the kernels, besides the plain ones, that are right on a device.

    The last fuses the most. Each is tried once in a process. Compiled ones need Triton and a C compiler; where they
    fail a warning says why.
    """
    if device.type == "cpu":
        return (ONEDNN,) if onednn.offers(dtype) and works(ONEDNN, device, dtype) else ()
    if device.type != "cuda":
        return ()
    single = tuple(name for name in ("cudnn", "compiled") if works(name, device, dtype))
    # Where both work, the compiled ones leave nothing that cuDNN's alone would do better.
    return ("compiled", "compiled, cudnn") if len(single) == 2 else single


def to_time(fused: Sequence[str]) -> tuple[str, ...]:
    """Names of the kernels among which timing chooses, where `fused` are available."""
    # oneDNN runs the plain ones too, so that those which do more in a call leave nothing to time.
    return tuple(fused) if tuple(fused) == (ONEDNN,) else (PLAIN, *fused)


@torch.inference_mode()
def works(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether these kernels compute on a device what the plain ones do, up to the rounding of `dtype`."""
    try:
        plain, fused = (_example(KERNELS[which], device, dtype) for which in (PLAIN, name))
        # float32 too may be computed in TF32, which rounds to 10 bits, as float16 does.
        bound = 1e-10 if dtype == torch.float64 else 2e-2
        wrong = [
            function for function, value in plain.items() if not torch.allclose(fused[function], value, bound, bound)
        ]
        failed = f"{', '.join(wrong)} differs" if wrong else None
    except Exception as error:  # whatever a compiler, a driver or a library raises: the plain kernels do the same
        failed = next(iter(str(error).splitlines()), type(error).__name__)
    if failed is not None:
        warnings.warn(f"frozen networks run without {name} kernels on {device}: {failed}", stacklevel=2)
    return failed is None


def time_unless_it_fails(kernels: str, time: Callable[[], float]) -> float:
    """The time that is measured; infinite where kernels other than plain ones cannot run.

    For some counts of channels and types cuDNN has no fused convolution, and says so when it is called.
    """
    try:
        return time()
    except RuntimeError:
        if kernels == PLAIN:
            raise
        return math.inf


def _example(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """By function what it makes of the same numbers."""

    def numbers(*shape: int) -> Tensor:
        count = torch.arange(torch.Size(shape).numel(), device=device, dtype=torch.float64)
        return (count * 0.7).sin().to(dtype).view(shape)

    def features(channels: int) -> Tensor:
        # Sides, pixels and channels all differ: what is compiled for equal ones serves equal ones alone.
        return numbers(1, channels, 12, 20).contiguous(memory_format=torch.channels_last)

    x_NCHW, bias = features(8), numbers(16)
    weight = (numbers(16, 8, 3, 3) / 4).contiguous(memory_format=torch.channels_last)
    shuffled = shuffle_order(16, 2) if kernels.ordered else list(range(16))
    channels = [*range(1, 32, 2)]
    index, place = torch.tensor(channels, device=device), placed(channels, 32).to(device)
    update_NCHW = kernels.conv(x_NCHW, weight, bias)
    # The next results of this size get memory full of NaN, which must not show: PyTorch hands cuDNN the memory of the
    # output as an addend, times zero.
    for garbage in [torch.empty_like(update_NCHW) for _ in range(8)]:
        garbage.fill_(torch.nan)
    del garbage
    return {
        "conv_relu": kernels.conv_relu(x_NCHW, weight, bias),
        "conv_leaky": kernels.conv_leaky(x_NCHW, weight, bias, 0.1),
        "narrow conv_relu": kernels.conv_relu(x_NCHW, *kernels.prepared(weight[:3], bias[:3])),
        "shuffle": kernels.conv_shuffle(x_NCHW, weight[shuffled], bias[shuffled], 2, 0.1),
        "add_": kernels.add_(features(16), update_NCHW, bias),
        "conv_add_": kernels.conv_add_(features(16), x_NCHW, weight, bias),
        "scatter_": kernels.scatter_(features(32), update_NCHW, bias, index, place),
        "gather": kernels.gather(features(32), index),
    }
