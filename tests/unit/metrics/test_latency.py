"""Latency: the order of calls and the arithmetic, under a clock that the measured networks move themselves."""

from types import SimpleNamespace

import pytest
import torch

from vsrprune.metrics import latency
from vsrprune.metrics.latency import compare_latency

CPU = torch.device("cpu")


class FakeNetwork:
    """Records what is asked of it; `spend(network, with_flow)` is called on every run."""

    def __init__(self, name, log, spend=lambda network, with_flow: None):
        self.name, self.log, self.spend = name, log, spend
        self.memory_format = torch.contiguous_format

    def to(self, memory_format):
        self.memory_format = memory_format
        self.log.append((self.name, "to", memory_format))
        return self

    def flows(self, clip_NTCHW):
        self.log.append((self.name, "flows", tuple(clip_NTCHW.shape)))
        return {"flows of": self.name}

    def __call__(self, clip_NTCHW, flows=None):
        self.log.append((self.name, "trunk" if flows else "whole", torch.is_inference_mode_enabled()))
        if flows:
            assert flows == {"flows of": self.name}
        self.spend(self, with_flow=not flows)
        return clip_NTCHW.sum()


@pytest.mark.parametrize("repeats", [1, 4])
def test_every_network_runs_the_stated_number_of_times_in_turns(repeats):
    log = []
    networks = {name: FakeNetwork(name, log) for name in ("dense", "pruned", "third")}
    compare_latency(networks, (6, 8), frames=2, repeats=repeats, device=CPU)
    turn = [(name, call) for name in networks for call in ("flows", "whole", "trunk")]
    calls = [(name, call) for name, call, _ in log]
    assert calls[-len(turn) * repeats :] == turn * repeats
    assert all(shape == (1, 2, 3, 6, 8) for _, call, shape in log if call == "flows")
    assert all(inference for _, call, inference in log if call in ("whole", "trunk"))


def test_every_network_is_warmed_up_in_both_formats_before_the_turns():
    log = []
    compare_latency({name: FakeNetwork(name, log) for name in ("dense", "pruned")}, (6, 8), 2, 1, CPU)
    before = log[: [call for _, call, _ in log].index("flows")]
    for name in ("dense", "pruned"):
        own = [(call, value) for owner, call, value in before if owner == name]
        formats = [value for call, value in own if call == "to"]
        assert formats[:2] == [torch.contiguous_format, torch.channels_last]
        assert [call for call, _ in own] == ["to", "whole", "whole", "to", "whole", "whole", "to"]


def test_times_are_positive_and_ordered_in_both_forms():
    networks = {name: FakeNetwork(name, []) for name in ("dense", "pruned")}
    found = compare_latency(networks, (6, 8), frames=2, repeats=5, device=CPU)
    assert list(found) == ["dense", "pruned"]
    for times in found.values():
        assert 0 < times.ms_fastest <= times.ms <= times.ms_slowest
        assert times.ms_without_flow > 0
        assert times.memory_format in ("contiguous", "channels_last")


class Clock:
    """Stands still until a network moves it."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


@pytest.mark.parametrize("faster", ["contiguous", "channels_last"])
def test_each_network_is_timed_in_its_own_faster_format(clock, faster):
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    other = next(name for name in formats if name != faster)

    def spending(best):
        def spend(network, with_flow):
            clock.now += (0.006 if with_flow else 0.004) * (1 if network.memory_format == formats[best] else 2)

        return spend

    networks = {"a": FakeNetwork("a", [], spending(faster)), "b": FakeNetwork("b", [], spending(other))}
    found = compare_latency(networks, (6, 8), frames=2, repeats=3, device=CPU)
    assert (found["a"].memory_format, found["b"].memory_format) == (faster, other)
    assert networks["a"].memory_format == formats[faster]
    for times in found.values():  # 6 ms with and 4 ms without the flow net, over two frames
        assert (times.ms, times.ms_fastest, times.ms_slowest) == pytest.approx((3, 3, 3))
        assert times.ms_without_flow == pytest.approx(2)


def test_median_and_spread_by_hand(clock):
    # Four runs choose the format, then whole and trunk take turns.
    durations = iter([1, 1, 1, 1, 50, 5, 20, 4, 10, 9, 40, 6, 90, 7])

    def spend(network, with_flow):
        clock.now += next(durations) / 1000

    found = compare_latency({"dense": FakeNetwork("dense", [], spend)}, (6, 8), frames=1, repeats=5, device=CPU)[
        "dense"
    ]
    assert next(durations, None) is None
    assert found.ms == pytest.approx(40)  # of 50, 20, 10, 40, 90
    assert (found.ms_fastest, found.ms_slowest) == pytest.approx((10, 90))
    assert found.ms_without_flow == pytest.approx(6)  # of 5, 4, 9, 6, 7
