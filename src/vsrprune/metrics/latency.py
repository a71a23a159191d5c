"""Measured time per frame: networks take turns in one process, on the same random clip."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

TRIES = 3  # calls of which the fastest counts: what disturbs a measurement only makes it longer


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
        network(clip_NTCHW)  # the first call allocates, compiles and fills caches
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
    """The fastest time of a few calls, after one that does not count, in milliseconds."""
    call()
    return min(milliseconds(call, device) for _ in range(TRIES))


def milliseconds(call: Callable[[], object], device: torch.device) -> float:
    """Time of one call, until the device is done with it."""
    # CUDA calls return before the work is done: wait for what came before, and for the call itself.
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return (time.perf_counter() - started) * 1000


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
