"""Measured time per frame: networks take turns in one process, each in its faster memory format."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Latency:
    """Milliseconds per frame: median and spread (fastest, slowest) over the repeats, with and without the flow net."""

    ms: float
    ms_fastest: float
    ms_slowest: float
    ms_without_flow: float
    memory_format: str


def compare_latency(
    networks: Mapping[str, Any], size: tuple[int, int], frames: int, repeats: int, device: torch.device
) -> dict[str, Latency]:
    """Time networks without gates on random clips of `frames` frames of `size` (height, width).

    Every repeat runs each network once, in turn, so that a machine that slows down slows all of them. Hold
    `machine.measuring` meanwhile: two measurements at once would time each other.
    """
    clip_NTCHW = torch.rand(1, frames, 3, *size, device=device)
    with torch.inference_mode():
        formats = {name: _faster_format(network, clip_NTCHW) for name, network in networks.items()}
        whole: dict[str, list[float]] = {name: [] for name in networks}
        trunk: dict[str, list[float]] = {name: [] for name in networks}
        for _ in range(repeats):
            for name, network in networks.items():
                flows = network.flows(clip_NTCHW)
                whole[name].append(_milliseconds(partial(network, clip_NTCHW), device) / frames)
                trunk[name].append(_milliseconds(partial(network, clip_NTCHW, flows), device) / frames)
    return {
        name: Latency(
            statistics.median(whole[name]),
            min(whole[name]),
            max(whole[name]),
            statistics.median(trunk[name]),
            formats[name],
        )
        for name in networks
    }


def _faster_format(network: Any, clip_NTCHW: torch.Tensor) -> str:
    """Leave `network` in the memory format in which a second, warm run is faster; return its name."""
    times = {}
    for name, memory_format in FORMATS.items():
        network.to(memory_format=memory_format)
        network(clip_NTCHW)
        times[name] = _milliseconds(partial(network, clip_NTCHW), clip_NTCHW.device)
    fastest = min(times, key=lambda name: times[name])
    network.to(memory_format=FORMATS[fastest])
    return fastest


def _milliseconds(call: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return (time.perf_counter() - started) * 1000


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
