"""Steps that are handed the states of other networks: what they read, and that one's own states give one's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from networks_made import random_clip, random_network, small_basicvsr, small_basicvsr_pp, small_edvr
from torch import Tensor

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.edsr_rcan.spec import EDSRArguments
from vsrprune.networks.network import Network
from vsrprune.networks.rrn.network import OUTPUT
from vsrprune.networks.rrn.spec import RRNArguments
from vsrprune.pruning.surgery import compact

FRAMES = 6
RECURRENT = {
    "basicvsr": small_basicvsr(),
    "basicvsr_uni": small_basicvsr(bidirectional=False),
    "gru": small_basicvsr(cell="gru"),
    "second_order": small_basicvsr(cell="second_order"),
    "second_order_uni": small_basicvsr(bidirectional=False, cell="second_order"),
    "basicvsr_pp": small_basicvsr_pp(),
    "rrn": RRNArguments(channels=4, blocks=2),
    "rrn at scale 1": RRNArguments(channels=4, blocks=2, upscale_factors=()),
}
BACK, FORTH = ("backward_1", "backward_2"), ("forward_1", "forward_2")
every_recurrent_network = pytest.mark.parametrize("name", RECURRENT)


def network_of(name: str, rule: str | None, dtype: torch.dtype = torch.float64) -> Network:
    network = random_network(RECURRENT[name], signed=True, dtype=dtype)
    if rule is None:
        return network
    layout = network.channel_layout(rule)
    return compact(network, PrunePlan.cutting(rule, layout, {g.name: [0] for g in layout.groups if g.size > 1})).eval()


@every_recurrent_network
@pytest.mark.parametrize("rule", [None, *RULES])
@pytest.mark.parametrize("length", [1, 2, FRAMES])
def test_steps_that_are_handed_a_networks_own_states_make_them_again(name: str, rule: str | None, length: int) -> None:
    network, clip = network_of(name, rule), random_clip(length)
    with torch.no_grad():
        whole, own = network(clip).hidden, list(network.states_handed_on(clip))
        alone = network.steps_alone(clip, network.flows(clip), iter(own))
        assert alone is not None
        again = list(alone)
    assert len(own) == len(again) == length
    for branch in network.arguments.branches:
        for t, state in enumerate(whole[branch]):
            torch.testing.assert_close(own[t][branch], state, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(again[t][branch], state, rtol=1e-12, atol=1e-12)


@every_recurrent_network
def test_the_first_step_of_a_branch_reads_no_state_of_it(name: str) -> None:
    """To the bit, in the precision of an evaluation, and whatever it is handed."""
    network, clip = network_of(name, "rsc", torch.float32), random_clip(FRAMES, dtype=torch.float32)
    with torch.no_grad():
        own, flows = list(network.states_handed_on(clip)), network.flows(clip)
        others = [{key: torch.full_like(state, 7.0) for key, state in states.items()} for states in own]
        alone = list(network.steps_alone(clip, flows, iter(others)))  # type: ignore[arg-type]
    starts = {"forward": 0, "backward": -1, "backward_1": -1}
    for branch in set(network.arguments.branches) & set(starts):
        first = starts[branch]
        assert torch.equal(alone[first][branch], own[first][branch])
        assert not torch.allclose(alone[2][branch], own[2][branch])


def read_by(network: Network, branch: str, t: int) -> tuple[set[int], set[tuple[str, int]]]:
    """The frames and the given states on which the state of frame t depends, by their gradients."""
    clip = random_clip(FRAMES)
    flows = {name: flow.detach() for name, flow in network.flows(clip).items()}
    given = [{key: state.detach() for key, state in states.items()} for states in network.states_handed_on(clip)]
    for tensor in (clip, *(state for states in given for state in states.values())):
        tensor.requires_grad_()
    alone = list(network.steps_alone(clip, flows, iter(given)))  # type: ignore[arg-type]
    alone[t][branch].square().sum().backward()  # type: ignore[no-untyped-call]
    assert clip.grad is not None
    frames = {at for at in range(FRAMES) if clip.grad[:, at].any()}
    states = {(key, at) for at, of in enumerate(given) for key, state in of.items() if _has_gradient(state)}
    return frames, states


def _has_gradient(tensor: Tensor) -> bool:
    return tensor.grad is not None and bool(tensor.grad.any())


def expected_reads() -> Iterator[tuple[str, str, int, set[int], set[tuple[str, int]]]]:
    yield "basicvsr", "forward", 3, {3}, {("forward", 2)}
    yield "basicvsr", "backward", 3, {3}, {("backward", 4)}
    yield "basicvsr", "backward", FRAMES - 1, {FRAMES - 1}, set()
    yield "basicvsr_uni", "forward", 1, {1}, {("forward", 0)}
    yield "gru", "forward", 3, {3}, {("forward", 2)}
    yield "second_order", "forward", 3, {3}, {("forward", 2), ("forward", 1)}
    yield "second_order", "forward", 1, {1}, {("forward", 0)}
    yield "second_order", "backward", 3, {3}, {("backward", 4), ("backward", 5)}
    yield "rrn", "forward", 3, {2, 3}, {("forward", 2), (OUTPUT, 2)}
    earlier: list[str] = []
    for branch in ("backward_1", "forward_1", "backward_2", "forward_2"):
        before = (4, 5) if branch in BACK else (2, 1)
        yield "basicvsr_pp", branch, 3, {3}, {*((branch, at) for at in before), *((name, 3) for name in earlier)}
        earlier.append(branch)
    yield "basicvsr_pp", "forward_1", 0, {0}, {("backward_1", 0)}


@pytest.mark.parametrize(("name", "branch", "t", "frames", "states"), expected_reads())
def test_a_step_reads_its_frame_and_the_states_that_are_handed_to_it(
    name: str, branch: str, t: int, frames: set[int], states: set[tuple[str, int]]
) -> None:
    assert read_by(network_of(name, None), branch, t) == (frames, states)


def test_networks_without_states_have_no_steps() -> None:
    for arguments in (EDSRArguments(channels=4, blocks=1), small_edvr()):
        network, clip = random_network(arguments), random_clip(2)
        with torch.no_grad():
            assert list(network.states_handed_on(clip)) == [{}, {}]
        assert network.steps_alone(clip, {}, iter([{}, {}])) is None
