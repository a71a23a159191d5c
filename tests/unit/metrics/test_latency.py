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


class FakeCard:
    """A patient watch: a call takes `slow` milliseconds until the card has worked for `rise`, and 1 ms from then on."""

    patient = True

    def __init__(self, slow: float = 4.0, rise: float = 15.0, call_ms: float = 1.0) -> None:
        self.slow, self.rise, self.call_ms = slow, rise, call_ms
        self.worked = 0.0
        self.spans: list[int] = []

    @property
    def rested(self) -> bool:
        return not self.spans

    def span(self, call: Callable[[], object], times: int) -> float:
        began = self.worked
        for _ in range(times):
            call()
            self.worked += self.call_ms * (self.slow if self.worked < self.rise else 1.0)
        self.spans.append(times)
        return self.worked - began


def test_on_a_card_nothing_counts_before_its_clocks_have_risen() -> None:
    card = FakeCard()
    assert fastest_milliseconds(lambda: None, CPU, card) == pytest.approx(1.0)
    # 4 ms, twice 4, 4 and three times 1, which is 19, and 8 more; then 2 ms three times.
    assert card.spans == [1, 2, 4, 8, 2, 2, 2]
    # Timed again at once, it needs no such warm-up: 1 and 2 ms, and then again 2 ms three times.
    assert fastest_milliseconds(lambda: None, CPU, card) == pytest.approx(1.0)
    assert card.spans[7:] == [1, 2, 2, 2, 2]


@pytest.mark.parametrize(("call_ms", "times"), [(5.0, 1), (2.0, 1), (0.5, 4), (0.011, 182)])
def test_on_a_card_a_short_call_is_repeated_for_two_milliseconds(call_ms: float, times: int) -> None:
    card = FakeCard(slow=1.0, rise=0.0, call_ms=call_ms)
    assert fastest_milliseconds(lambda: None, CPU, card) == pytest.approx(call_ms)
    assert card.spans[-3:] == [times] * 3


def test_on_a_card_networks_take_turns_for_a_third_of_a_second() -> None:
    log: list[Any] = []
    card = FakeCard(slow=1.0, rise=0.0, call_ms=3.0)
    networks = {name: FakeNetwork(name, log) for name in ("dense", "pruned")}
    found = compare_latency(networks, CLIP, 5, card)
    assert {row.ms for row in found.values()} == {1.5}  # of two frames
    warm, counted = card.spans[:-20], card.spans[-20:]
    assert counted == [20] * 20  # two networks, five repeats, with and without flow: 20 calls are 60 of 300 ms
    assert 3.0 * sum(warm) / 2 >= 200
    turns = [name for (name, call, _) in log if call == "flows"][-10:]
    assert turns == ["dense", "pruned"] * 5
