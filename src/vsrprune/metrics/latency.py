"""Measured time per frame: networks take turns in one process, on the same random clip."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vsrprune.operations import Operation

TRIES = 3  # of a call whose fastest time is wanted


@dataclass(frozen=True)
class Latency:
    """Milliseconds per frame: median and spread (fastest, slowest) over the repeats, with and without the flow net."""

    ms: float
    ms_fastest: float
    ms_slowest: float
    ms_without_flow: float


@torch.inference_mode()
def compare_latency(networks: Mapping[str, Any], clip_NTCHW: Tensor, repeats: int) -> dict[str, Latency]:
    """Time networks on a clip: each is called with the clip, and with the clip and what its `flows` makes of it.

    Every repeat runs each network once, in turn, so that a machine that slows down slows all of them. Hold
    `machine.measuring` meanwhile: two measurements at once would time each other.
    """
    frames, device = clip_NTCHW.shape[1], clip_NTCHW.device
    whole: dict[str, list[float]] = {name: [] for name in networks}
    trunk: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        network(clip_NTCHW)  # warm
    for _ in range(repeats):
        for name, network in networks.items():
            flows = network.flows(clip_NTCHW)
            whole[name].append(milliseconds(partial(network, clip_NTCHW), device) / frames)
            trunk[name].append(milliseconds(partial(network, clip_NTCHW, flows), device) / frames)
    return {
        name: Latency(
            statistics.median(whole[name]), min(whole[name]), max(whole[name]), statistics.median(trunk[name])
        )
        for name in networks
    }


@torch.inference_mode()
def fastest_milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """The fastest of a few calls after a warm one."""
    call()
    return min(milliseconds(call, device) for _ in range(TRIES))


@torch.inference_mode()
def time_operations(
    operations: Sequence[Operation],
    size: tuple[int, int],
    memory_format: torch.memory_format,
    device: torch.device,
    on_done: Callable[[int], None] = lambda count: None,
) -> dict[Operation, float]:
    """Milliseconds of each operation on a random frame of `size` (height, width; low resolution).

    on_done: called after each with the number of those that are done.
    """
    times = {}
    for count, operation in enumerate(operations, start=1):
        times[operation] = fastest_milliseconds(_call(operation, size, memory_format, device), device)
        on_done(count)
    return times


def _call(
    operation: Operation, size: tuple[int, int], memory_format: torch.memory_format, device: torch.device
) -> Callable[[], object]:
    """The operation as a frozen network runs it."""

    def feature(channels: int) -> Tensor:
        shape = (1, channels, *(side * operation.scale for side in size))
        return torch.rand(shape, device=device).contiguous(memory_format=memory_format)

    def places(some: int, of: int) -> Tensor:
        return torch.linspace(0, of - 1, some, device=device).round().long()

    reads, writes = operation.reads, operation.writes
    x_NCHW = feature(reads)
    if operation.kind == "conv":
        kernel = operation.kernel
        weight = torch.rand(writes, reads, kernel, kernel, device=device).contiguous(memory_format=memory_format)
        bias = torch.zeros(writes, device=device)
        return lambda: F.conv2d(x_NCHW, weight, bias, padding=kernel // 2)
    if operation.kind == "shuffle":
        factor = math.isqrt(reads // writes)
        return lambda: F.leaky_relu_(F.pixel_shuffle(x_NCHW, factor), 0.1)
    if operation.kind == "activation":
        return lambda: F.relu_(x_NCHW)
    if operation.kind == "gather":
        read = places(writes, reads)
        return lambda: x_NCHW.index_select(1, read)
    stream_NCHW = feature(writes)
    if operation.kind == "scatter":
        written = places(reads, writes)
        return lambda: stream_NCHW.index_add_(1, written, x_NCHW)
    return lambda: stream_NCHW.add_(x_NCHW)


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Time of one call, until the device is done with it."""
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return (time.perf_counter() - started) * 1000


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
