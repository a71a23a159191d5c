"""Measured time per frame: networks take turns in one process, on the same random clip."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

CPU = torch.device("cpu")
TRIES = 3  # spans of which the fastest counts: what disturbs a measurement only makes it longer
# On a CUDA device, in milliseconds. A short call is repeated until a span is long beside the resolution of events, and
# before anything counts the device works long enough to leave its idle clocks. A choice of forms times hundreds of
# calls one after the other: between them the clocks stay up.
WARM_MS, WARM_AGAIN_MS, SPAN_MS = 20.0, 2.0, 2.0  # of an operation, or a form
RESTS_AFTER_MS = 50.0  # without work, when the clocks may fall
WARM_NETWORK_MS, NETWORK_MS = 200.0, 300.0  # of a network that is compared; the second is the total over its repeats

Call = Callable[[], object]
K = TypeVar("K")


@dataclass(frozen=True)
class Latency:
    """Milliseconds per frame: median and spread (fastest, slowest) over the repeats, with and without the flow net."""

    ms: float
    ms_fastest: float
    ms_slowest: float
    ms_without_flow: float


class Stopwatch(Protocol):
    """How time is taken on a device.

    patient: calls are many and short, and the device has clocks that must rise. rested: it has not been timed just now.
    """

    patient: bool

    @property
    def rested(self) -> bool:
        """See above."""

    def span(self, call: Call, times: int) -> float:
        """Milliseconds of `times` calls in a row."""


class HostStopwatch:
    """The host's clock around one call, which is done when it returns."""

    patient = False
    rested = True

    def span(self, call: Call, times: int) -> float:
        """See `Stopwatch`."""
        started = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - started) * 1000


class CudaStopwatch:
    """Two events in the device's queue: no wait lies between the calls, and none of the host's is counted."""

    patient = True
    _worked: ClassVar[dict[torch.device, float]] = {}  # by device when its last span ended, of every watch

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def rested(self) -> bool:
        """See `Stopwatch`."""
        return (time.monotonic() - self._worked.get(self._device, -math.inf)) * 1000 > RESTS_AFTER_MS

    def span(self, call: Call, times: int) -> float:
        """See `Stopwatch`."""
        # Work that is still queued would hide the launches of the first calls.
        torch.cuda.synchronize(self._device)
        with torch.cuda.device(self._device):
            started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            started.record()
            for _ in range(times):
                call()
            ended.record()
        ended.synchronize()
        self._worked[self._device] = time.monotonic()
        return float(started.elapsed_time(ended))


def watch_of(device: torch.device) -> Stopwatch:
    """The watch for a device."""
    return CudaStopwatch(device) if device.type == "cuda" else HostStopwatch()


@torch.inference_mode()
def compare_latency(
    networks: Mapping[str, Any], clip_NTCHW: Tensor, repeats: int, watch: Stopwatch | None = None
) -> dict[str, Latency]:
    """Time networks on a clip: each is called with the clip, and with the clip and what its `flows` makes of it.

    Every repeat runs each network in turn, so that a machine that slows down slows all of them: once, or on a CUDA
    device so often that the repeats together take NETWORK_MS. Hold `machine.measuring` meanwhile: two measurements at
    once would time each other.
    """
    watch = watch_of(clip_NTCHW.device) if watch is None else watch
    frames = clip_NTCHW.shape[1]
    whole: dict[str, list[float]] = {name: [] for name in networks}
    trunk: dict[str, list[float]] = {name: [] for name in networks}
    # The first calls allocate, compile and fill caches.
    once = {name: _warm(partial(network, clip_NTCHW), watch, WARM_NETWORK_MS) for name, network in networks.items()}
    times = {name: _times(ms, watch, NETWORK_MS / repeats) for name, ms in once.items()}
    if watch.patient:
        # With flows that are given a network may run, and capture, something else than without.
        for network in networks.values():
            network(clip_NTCHW, network.flows(clip_NTCHW))
    for _ in range(repeats):
        for name, network in networks.items():
            flows = network.flows(clip_NTCHW)
            whole[name].append(_mean(partial(network, clip_NTCHW), watch, times[name]) / frames)
            trunk[name].append(_mean(partial(network, clip_NTCHW, flows), watch, times[name]) / frames)
    return {
        name: Latency(
            statistics.median(whole[name]), min(whole[name]), max(whole[name]), statistics.median(trunk[name])
        )
        for name in networks
    }


def in_turns(calls: Mapping[K, Call], repeats: int) -> dict[K, float]:
    """Median milliseconds of calls on the CPU, which take turns: a machine that slows down does so for all of them."""
    for call in calls.values():
        call()  # the first is slower
    rounds = [{name: milliseconds(call, CPU) for name, call in calls.items()} for _ in range(repeats)]
    return {name: statistics.median(times[name] for times in rounds) for name in calls}


@torch.inference_mode()
def fastest_milliseconds(call: Call, device: torch.device, watch: Stopwatch | None = None) -> float:
    """The fastest time of a call in a few tries, after a warm-up that does not count, in milliseconds."""
    watch = watch_of(device) if watch is None else watch
    times = _times(_warm(call, watch, WARM_MS if watch.rested else WARM_AGAIN_MS), watch, SPAN_MS)
    return min(_mean(call, watch, times) for _ in range(TRIES))


def milliseconds(call: Call, device: torch.device) -> float:
    """Time of one call, until the device is done with it."""
    # CUDA calls return before the work is done: wait for what came before, and for the call itself.
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return (time.perf_counter() - started) * 1000


def _warm(call: Call, watch: Stopwatch, for_ms: float) -> float:
    """Run a call, once or for some time; milliseconds of a call at the end of it."""
    spent, times = 0.0, 1
    while True:
        took = watch.span(call, times)
        spent += took
        if not watch.patient or spent >= for_ms:
            return took / times
        times *= 2


def _times(once_ms: float, watch: Stopwatch, span_ms: float) -> int:
    """How many calls a span holds."""
    return math.ceil(span_ms / once_ms) if watch.patient and once_ms < span_ms else 1


def _mean(call: Call, watch: Stopwatch, times: int) -> float:
    return watch.span(call, times) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
