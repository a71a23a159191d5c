"""The operations of a frozen network on tensors: what it runs, and what is timed for `round_to=auto`.

Gathering and scattering channels are written for each memory format, since what is fast in one is ten times slower in
the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrprune.channels.operations import Operation, TimeTable
from vsrprune.networks.fast.graphs import recorder_of, time_unlaunched

# On a CPU timing whole frames of high definition would take longer than many clips.
TIMED_PIXELS = 180 * 320
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _is_channels_last(x_NCHW: Tensor) -> bool:
    # A tensor of one channel is contiguous in both formats, and is treated as one of the plain format.
    return x_NCHW.is_contiguous(memory_format=torch.channels_last) and not x_NCHW.is_contiguous()


def gather(stream_NCHW: Tensor, channels: Tensor) -> Tensor:
    """The stream's `channels`, copied, in its memory format."""
    if _is_channels_last(stream_NCHW):
        # Indexing the last axis of memory, where the channels of a pixel lie side by side.
        return stream_NCHW.permute(0, 2, 3, 1)[..., channels].permute(0, 3, 1, 2)
    return stream_NCHW.index_select(1, channels)


def scatter_(stream_NCHW: Tensor, channels: Tensor, update_NCHW: Tensor) -> Tensor:
    """Add `update` to the stream's `channels`, in place; returns the stream."""
    if _is_channels_last(stream_NCHW):
        # 32 of 64 channels at 180x320: index_add_ over dimension 1 takes 4.9 ms, over the last one, as here, 0.6.
        stream_NCHW.permute(0, 2, 3, 1).index_add_(3, channels, update_NCHW.permute(0, 2, 3, 1))
        return stream_NCHW
    return stream_NCHW.index_add_(1, channels, update_NCHW)


def operation_call(
    operation: Operation,
    size: tuple[int, int],
    memory_format: torch.memory_format,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Callable[[], object]:
    """The operation on random tensors of `size` (height, width)."""

    def feature(channels: int) -> Tensor:
        return torch.rand(1, channels, *size, device=device, dtype=dtype).contiguous(memory_format=memory_format)

    def places(some: int, of: int) -> Tensor:
        # Spread over the stream, as the kept channels of a plan are.
        return torch.linspace(0, of - 1, some, device=device).round().long()

    reads, writes = operation.reads, operation.writes
    x_NCHW = feature(reads)
    if operation.kind == "conv":
        kernel = operation.kernel
        weight = torch.rand(writes, reads, kernel, kernel, device=device, dtype=dtype)
        weight = weight.contiguous(memory_format=memory_format)
        bias = torch.zeros(writes, device=device, dtype=dtype)
        return lambda: F.conv2d(x_NCHW, weight, bias, padding=kernel // 2)
    if operation.kind == "shuffle":
        factor = math.isqrt(reads // writes)
        return lambda: F.leaky_relu_(F.pixel_shuffle(x_NCHW, factor), 0.1)
    if operation.kind == "activation":
        return lambda: F.relu_(x_NCHW)
    if operation.kind == "gather":
        read = places(writes, reads)
        return lambda: gather(x_NCHW, read)
    stream_NCHW = feature(writes)
    if operation.kind == "scatter":
        written = places(reads, writes)
        return lambda: scatter_(stream_NCHW, written, x_NCHW)
    return lambda: stream_NCHW.add_(x_NCHW)


def timed_size(size: tuple[int, int], device: torch.device) -> tuple[int, int]:
    """The frame (height, width) on which operations and forms are timed in place of one of `size`."""
    # A card has time for frames as they are, and on smaller ones another form may win: small ones leave it idle.
    shrink = 1.0 if device.type == "cuda" else min(1.0, math.sqrt(TIMED_PIXELS / math.prod(size)))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def time_tables(
    operations: Sequence[Operation],
    size: tuple[int, int],
    device: torch.device,
    time: Callable[[Callable[[], object]], float],
    on_done: Callable[[int], None],
    dtype: torch.dtype = torch.float32,
) -> dict[str, TimeTable]:
    """By memory format the times of `operations` on frames of `size` (height, width).

    time: milliseconds of a call. on_done: told after each operation how many are done. Where frames are timed that are
    smaller (`timed_size`), the times are extrapolated.
    """
    timed = timed_size(size, device)
    # A convolution's time grows with the number of pixels.
    factor = math.prod(size) / math.prod(timed)
    tables, record = {}, recorder_of(device)
    done = itertools.count(1)
    for name, memory_format in FORMATS.items():
        times = {}
        for operation in operations:
            call = operation_call(operation, timed, memory_format, device, dtype)
            times[operation] = factor * time_unlaunched(call, time, record)
            on_done(next(done))
        tables[name] = TimeTable(times)
    return tables
