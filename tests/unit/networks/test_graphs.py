"""Replayed steps: the same function for inputs that change, and nothing that is handed out is written again.

The recorder here stands in for a card's: what it records reads and writes the same memory each time, as a graph does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_networks import NETWORKS, compact_network
from torch import Tensor

from vsrprune.networks.fast.blocks import Form
from vsrprune.networks.fast.fastest import OF_ANY_NETWORK, REPLAYED, fastest_called
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.fast.graphs import UNLAUNCHED_CALLS, Graphs, direct, time_unlaunched
from vsrprune.networks.table import FAMILIES, loaded
from vsrprune.use.streaming import Pieces, upscaled_frames

RECURRENT = ("basicvsr", "rrn")


class Again:
    """A recording that runs the call again, from the places of its inputs into the places of its outputs."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call, self.outputs = call, call()
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        _write(self._call(), self.outputs)


def _write(source: Any, target: Any) -> None:
    if isinstance(source, Tensor):
        target.copy_(source)
    elif isinstance(source, dict):
        for name in source:
            _write(source[name], target[name])
    elif source is not None:
        for item, place in zip(source, target, strict=True):
            _write(item, place)


def frozen_of(name: str, **changes: Any) -> Frozen:
    network = compact_network(name, "rsc", **changes)
    form: Frozen = loaded(FAMILIES[name].frozen or OF_ANY_NETWORK)(network, lambda shape: Form())
    return form


def clip(length: int, height: int = 7, width: int = 9, seed: int = 0) -> Tensor:
    return torch.rand(1, length, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_every_call_is_computed_from_its_own_inputs() -> None:
    graphs = Graphs(Again)
    pairs = [(torch.rand(2, 3), torch.rand(2, 3)) for _ in range(4)]
    results = [graphs(torch.mul, *pair) for pair in pairs]
    assert len(graphs) == 1
    assert all(torch.equal(result, a * b) for result, (a, b) in zip(results, pairs, strict=True))


def test_what_was_handed_out_stays_and_what_was_given_may_change() -> None:
    graphs, given = Graphs(Again), torch.tensor([1.0, 2.0])
    first = graphs(torch.neg, given)
    given.fill_(5.0)
    assert first.tolist() == [-1.0, -2.0]
    assert graphs(torch.neg, given).tolist() == [-5.0, -5.0]
    assert first.tolist() == [-1.0, -2.0]
    with torch.inference_mode():
        first.zero_()  # and what a caller does to it reaches no graph
    assert graphs(torch.neg, given).tolist() == [-5.0, -5.0]


def test_a_state_is_carried_from_call_to_call() -> None:
    def step(state: Tensor, add: Tensor | None) -> tuple[Tensor, Tensor]:
        state = state * 2 if add is None else state + add
        return state, state.clone()

    graphs, state = Graphs(Again), torch.ones(3)
    history = []
    for add in (None, torch.full((3,), 5.0), torch.full((3,), -1.0), None):
        state, seen = graphs(step, state, add)
        history.append(seen)
    assert [float(seen[0]) for seen in history] == [2, 7, 6, 12]
    assert len(graphs) == 2  # with and without what is added


def test_shapes_types_formats_and_functions_have_recordings_of_their_own_of_which_the_newest_are_kept() -> None:
    graphs, x = Graphs(Again, kept=3), torch.rand(1, 4, 5, 6)
    graphs(torch.neg, x)
    graphs(torch.neg, x.to(memory_format=torch.channels_last))
    graphs(torch.neg, x.double())
    assert len(graphs) == 3
    graphs(torch.neg, x)  # used again, so that it is not the oldest
    kept = list(graphs._graphs)
    graphs(torch.abs, x)
    assert list(graphs._graphs)[:2] == [kept[1], kept[2]]
    assert len(graphs) == 3
    slices = torch.rand(1, 7, 4, 5, 6)
    assert torch.equal(graphs(torch.neg, slices[:, 2]), -slices[:, 2])
    assert len(graphs) == 3  # a slice of a clip is what a tensor of its shape is
    graphs.forget()
    assert len(graphs) == 0
    assert torch.equal(graphs(torch.neg, x), -x)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_replayed_network_restores_what_a_launched_one_does(name: str) -> None:
    """Changing clips, two sizes in turns, and flows that are given; earlier outputs stay."""
    launched, replayed = frozen_of(name), frozen_of(name)
    graphs = Graphs(Again)
    replayed.call = graphs
    clips = [clip(2, seed=1), clip(3, 10, 8, seed=2), clip(2, seed=3), clip(3, 10, 8, seed=4)]
    outputs = [replayed(frames) for frames in clips]
    recorded = len(graphs)
    for frames, output in zip(clips, outputs, strict=True):
        torch.testing.assert_close(output, launched(frames), rtol=1e-11, atol=1e-11)
    flows = replayed.flows(clips[0])
    torch.testing.assert_close(replayed(clips[0], flows), launched(clips[0]), rtol=1e-11, atol=1e-11)
    assert recorded <= {"basicvsr": 12, "rrn": 2}.get(name, 2)


@pytest.mark.parametrize("name", RECURRENT)
def test_clips_of_every_length_replay_the_same_graphs(name: str) -> None:
    replayed, graphs = frozen_of(name), Graphs(Again)
    replayed.call = graphs
    replayed(clip(2))
    recorded = len(graphs)
    replayed(clip(3))
    replayed(clip(5))
    assert len(graphs) == recorded


@pytest.mark.parametrize("tile", [0, 6])
@pytest.mark.parametrize("name", ["basicvsr", "rrn", "edvr", "edsr"])
def test_states_carry_across_windows_and_tiles_of_other_sizes(name: str, tile: int) -> None:
    launched, replayed = frozen_of(name), frozen_of(name)
    replayed.call = Graphs(Again)
    frames = list(clip(5, 9, 13).unbind(1))
    pieces = Pieces(window=2, overlap=1, tile=tile, tile_overlap=2)
    expected, got = (list(upscaled_frames(network, iter(frames), pieces)) for network in (launched, replayed))
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("wanted", [REPLAYED, ""])
def test_the_faster_of_launching_and_replaying_is_chosen(wanted: str) -> None:
    candidates = {name: frozen_of("basicvsr") for name in ("contiguous", "channels_last")}

    def time(call: Callable[[], object]) -> float:
        call()
        form = call.func  # type: ignore[attr-defined]
        faster = form is candidates["channels_last"]
        return (1.0 if isinstance(form.call, Graphs) == (wanted == REPLAYED) else 2.0) - 0.1 * faster

    frozen, name = fastest_called(candidates, clip(2), time, Again)
    assert name == f"channels_last{wanted}"
    assert frozen is candidates["channels_last"]
    assert isinstance(frozen.call, Graphs) == (wanted == REPLAYED)
    if isinstance(frozen.call, Graphs):
        assert len(frozen.call) == 0  # graphs that timing left are of no use to clips of other lengths


def test_a_network_that_cannot_be_recorded_is_launched() -> None:
    def refuse(call: Callable[[], Any]) -> Again:
        raise RuntimeError("operation not permitted when stream is capturing")

    candidates = {"contiguous": frozen_of("edsr")}
    frozen, name = fastest_called(candidates, clip(2), lambda call: float(call() is None), refuse)
    assert (frozen.call, name) == (direct, "contiguous")


def test_a_failure_of_the_network_itself_is_no_reason_to_launch_it() -> None:
    def time(call: Callable[[], object]) -> float:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fastest_called({"contiguous": frozen_of("edsr")}, clip(1), time, Again)


def test_an_operation_is_timed_within_a_graph_of_many_calls() -> None:
    """Under a clock on which a launch takes 30 us, whatever is launched, and a call 2 us."""
    spent = 0.0

    def call() -> None:
        nonlocal spent
        spent += 0.002

    def time(timed: Callable[[], object]) -> float:
        nonlocal spent
        spent = 0.0
        timed()
        return 0.030 + spent

    assert time_unlaunched(call, time, None) == pytest.approx(0.032)
    assert time_unlaunched(call, time, Again) == pytest.approx(0.002 + 0.030 / UNLAUNCHED_CALLS)

    def refuse(call: Callable[[], Any]) -> Again:
        raise RuntimeError

    assert time_unlaunched(call, time, refuse) == pytest.approx(0.032)
