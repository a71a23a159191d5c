"""Latency: the order of calls and the arithmetic, under a clock that the measured networks move themselves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vsrprune.metrics import latency
from vsrprune.metrics.latency import compare_latency, fastest_milliseconds

CPU = torch.device("cpu")
CLIP = torch.rand(1, 2, 3, 6, 8)


class FakeNetwork:
    """Records what is asked of it; `spend(with_flow)` is called on every run."""

    def __init__(self, name: str, log: list[Any], spend: Callable[[bool], None] = lambda with_flow: None) -> None:
        self.name, self.log, self.spend = name, log, spend

    def flows(self, clip_NTCHW: Tensor) -> dict[str, str]:
        self.log.append((self.name, "flows", clip_NTCHW))
        return {"flows of": self.name}

    def __call__(self, clip_NTCHW: Tensor, flows: dict[str, str] | None = None) -> Tensor:
        self.log.append((self.name, "trunk" if flows else "whole", torch.is_inference_mode_enabled()))
        if flows:
            assert flows == {"flows of": self.name}
        self.spend(not flows)
        return clip_NTCHW.sum()


class Clock:
    """Stands still until a network moves it."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


@pytest.mark.parametrize("repeats", [1, 4])
def test_every_network_is_warmed_once_and_runs_the_stated_number_of_times_in_turns(repeats: int) -> None:
    log: list[Any] = []
    networks = {name: FakeNetwork(name, log) for name in ("dense", "pruned", "third")}
    compare_latency(networks, CLIP, repeats)
    warm = [(name, "whole") for name in networks]
    turn = [(name, call) for name in networks for call in ("flows", "whole", "trunk")]
    assert [(name, call) for name, call, _ in log] == warm + turn * repeats
    assert all(clip is CLIP for _, call, clip in log if call == "flows")
    assert all(inference for _, call, inference in log if call != "flows")


def test_median_and_spread_by_hand(clock: Clock) -> None:
    # One warm run, then whole and trunk take turns; two frames in the clip.
    durations = iter([1, 100, 10, 40, 8, 20, 18, 80, 12, 180, 14])

    def spend(with_flow: bool) -> None:
        clock.now += next(durations) / 1000

    found = compare_latency({"dense": FakeNetwork("dense", [], spend)}, CLIP, repeats=5)["dense"]
    assert next(durations, None) is None
    assert found.ms == pytest.approx(40)  # of 50, 20, 10, 40, 90
    assert (found.ms_fastest, found.ms_slowest) == pytest.approx((10, 90))
    assert found.ms_without_flow == pytest.approx(6)  # of 5, 4, 9, 6, 7


def test_the_fastest_of_three_calls_after_a_warm_one(clock: Clock) -> None:
    durations = iter([1, 7, 5, 6])

    def call() -> None:
        clock.now += next(durations) / 1000

    assert fastest_milliseconds(call, CPU) == pytest.approx(5)
    assert next(durations, None) is None
