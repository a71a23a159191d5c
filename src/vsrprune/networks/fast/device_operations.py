"""The operations of a frozen network on tensors, which are timed for `round_to=auto`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrprune.channels.operations import Operation, TimeTable
from vsrprune.networks.fast.fused import (
    KERNELS,
    ONEDNN,
    PLAIN,
    available,
    placed,
    time_unless_it_fails,
    to_time,
)
from vsrprune.networks.fast.graphs import recorder_of, time_unlaunched
from vsrprune.networks.fast.kernels import Kernels, convolved

# On a CPU timing whole frames of high definition would take longer than many clips.
TIMED_PIXELS = 180 * 320
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def operation_calls(
    operation: Operation,
    size: tuple[int, int],
    memory_format: torch.memory_format,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    fused: Sequence[str] = (),
) -> dict[str, Callable[[], object]]:
    """By name of the kernels the ways to run an operation on random tensors of `size` (height, width).

    The fastest counts. fused: names of kernels that may be used besides the plain ones. With them a convolution takes
    its bias and ReLU along, and there is no other way to run an activation than that; so with oneDNN's for an addition
    to all of a stream.
    """

    def feature(channels: int) -> Tensor:
        return torch.rand(1, channels, *size, device=device, dtype=dtype).contiguous(memory_format=memory_format)

    def places(some: int, of: int) -> Tensor:
        # Spread over the stream, as the kept channels of a plan are.
        return torch.linspace(0, of - 1, some, device=device).round().long()

    kernels = {name: KERNELS[name] for name in to_time(fused)}
    reads, writes = operation.reads, operation.writes
    x_NCHW = feature(reads)
    if operation.kind == "conv":
        kernel = operation.kernel
        weight = torch.rand(writes, reads // operation.groups, kernel, kernel, device=device, dtype=dtype)
        weight = weight.contiguous(memory_format=memory_format)
        bias = torch.zeros(writes, device=device, dtype=dtype)
        if fused:
            return {name: _convolution(way, x_NCHW, weight, bias, memory_format) for name, way in kernels.items()}
        return {PLAIN: partial(convolved, x_NCHW, weight, bias)}
    if operation.kind == "activation":
        return {} if fused else {PLAIN: lambda: F.relu_(x_NCHW)}
    if operation.kind == "shuffle":
        factor, bias = math.isqrt(reads // writes), torch.zeros(reads, device=device, dtype=dtype)
        return {name: partial(way.shuffle, x_NCHW, bias, factor, 0.1) for name, way in kernels.items()}
    if operation.kind == "gather":
        return {name: partial(way.gather, x_NCHW, places(writes, reads)) for name, way in kernels.items()}
    stream_NCHW = feature(writes)
    if operation.kind == "scatter":
        written = places(reads, writes)
        bias, place = torch.zeros(reads, device=device, dtype=dtype), placed(written.tolist(), writes).to(device)
        return {name: partial(way.scatter_, stream_NCHW, x_NCHW, bias, written, place) for name, way in kernels.items()}
    return {} if ONEDNN in kernels else {PLAIN: lambda: stream_NCHW.add_(x_NCHW)}


def _convolution(
    kernels: Kernels, x_NCHW: Tensor, weight: Tensor, bias: Tensor, memory_format: torch.memory_format
) -> Callable[[], object]:
    if x_NCHW.shape[1] == weight.shape[1]:  # not one in groups
        weight, bias = kernels.prepared(weight, bias)
    return partial(kernels.conv_relu, x_NCHW, weight.contiguous(memory_format=memory_format), bias)


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
        # Fused kernels are written for channels_last.
        fused = available(device, dtype) if memory_format is torch.channels_last else ()
        for operation in operations:
            ways = operation_calls(operation, timed, memory_format, device, dtype, fused)
            tried = [
                time_unless_it_fails(name, partial(time_unlaunched, call, time, record)) for name, call in ways.items()
            ]
            # An operation without a way of its own is part of another one.
            times[operation] = factor * min(tried, default=0.0)
            on_done(next(done))
        tables[name] = TimeTable(times)
    return tables
