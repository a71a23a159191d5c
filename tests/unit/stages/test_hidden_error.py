"""The error of hidden states over time, and its parts: made in a frame's step, and handed on by other steps."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from networks_made import random_clip, random_network, small_basicvsr, small_basicvsr_pp
from torch import Tensor, nn

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.network import Flows, Network, States
from vsrprune.networks.own import OwnNetwork
from vsrprune.networks.own import VSROutput as OwnOutput
from vsrprune.networks.rrn.spec import RRNArguments
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.surgery import compact
from vsrprune.results.result import HiddenError
from vsrprune.stages.evaluate.hidden import StateErrors, seen_beside

CPU = torch.device("cpu")
RECURRENT = {
    "basicvsr": small_basicvsr(),
    "basicvsr_uni": small_basicvsr(bidirectional=False),
    "gru": small_basicvsr(cell="gru"),
    "second_order": small_basicvsr(cell="second_order"),
    "basicvsr_pp": small_basicvsr_pp(),
    "rrn": RRNArguments(channels=4, blocks=2),
}
every_recurrent_network = pytest.mark.parametrize("name", RECURRENT)


def errors_of(network: Any, dense: Any, *clips: Tensor, cut: Any = None) -> dict[str, HiddenError]:
    """As `evaluate` measures them. cut: the network right after the cut, `network` itself if not given."""
    tuned, after_cut = (StateErrors(item, CPU) for item in (network, cut or network))
    with torch.inference_mode():
        for clip in clips:
            flows = network.flows_in_parts(clip)
            see = seen_beside(tuned, after_cut, dense, clip, flows)
            for t, states in enumerate(network.states_handed_on(clip, flows or None)):
                see(t, states)
    if cut is None:  # both go the same way
        assert after_cut.by_branch() == tuned.by_branch()
    return (tuned if cut is None else after_cut).by_branch()


# By hand


class Linear(nn.Module):
    """h_t = a h_(t-1) + b x_t in every pixel, where x is the first colour; h is 0 before the first frame."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b, self.arguments = a, b, SimpleNamespace(branches=("h",))

    def stream_channels(self, branch: str) -> None:
        return None

    def flows_in_parts(self, frames_NTCHW: Tensor) -> Flows:
        return {}

    def states_handed_on(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[States]:
        h = torch.zeros_like(frames_NTCHW[:, 0, :1])
        for frame_NCHW in frames_NTCHW.unbind(1):
            h = self.a * h + self.b * frame_NCHW[:, :1]
            yield {"h": h}

    def steps_alone(self, frames_NTCHW: Tensor, flows: Flows, given: Iterator[States]) -> Iterator[States]:
        h = torch.zeros_like(frames_NTCHW[:, 0, :1])
        for frame_NCHW, states in zip(frames_NTCHW.unbind(1), given, strict=True):
            yield {"h": self.a * h + self.b * frame_NCHW[:, :1]}
            h = states["h"]


@pytest.mark.parametrize(("a", "b"), [(0.5, 1.0), (0.9, 0.8), (0.6, 1.0), (0.5, 0.7), (-0.4, 0.3), (1.2, 1.1)])
def test_a_linear_recurrence_on_a_constant_has_closed_forms(a: float, b: float) -> None:
    """With x = 1, h_t is b (1 - a^(t+1)) / (1 - a); dense a is 0.9 and b 1."""
    frames = 7
    clip = torch.ones(1, frames, 3, 4, 5, dtype=torch.float64)
    errors = errors_of(Linear(a, b), Linear(0.9, 1.0), clip)["h"]
    dense = [(1 - 0.9 ** (t + 1)) / 0.1 for t in range(frames)]
    pruned = [b * (1 - a ** (t + 1)) / (1 - a) for t in range(frames)]
    before, own_before = [0.0, *dense[:-1]], [0.0, *pruned[:-1]]
    total = [abs(g - h) / h for g, h in zip(pruned, dense, strict=True)]
    made = [abs((a - 0.9) * last + (b - 1)) / h for last, h in zip(before, dense, strict=True)]
    handed = [abs(a * (g - h)) / now for g, h, now in zip(own_before, before, dense, strict=True)]
    assert errors.total == pytest.approx(total, abs=1e-8)
    assert errors.made_here == pytest.approx(made, abs=1e-8)
    assert errors.propagated == pytest.approx(handed, abs=1e-8)


def test_a_network_that_forgets_propagates_nothing_and_one_that_only_remembers_wrongly_starts_with_the_rest() -> None:
    clip = random_clip(5)
    forgets = errors_of(Linear(0.0, 0.7), Linear(0.0, 1.0), clip)["h"]
    assert forgets.propagated == [0] * 5
    assert forgets.made_here == forgets.total == pytest.approx([0.3] * 5, abs=1e-8)
    reads_rightly = errors_of(Linear(0.5, 1.0), Linear(0.9, 1.0), clip)["h"]
    assert reads_rightly.total[0] == 0
    assert reads_rightly.made_here == pytest.approx([0, *(0.4 * rms_of_before(clip, t) for t in range(1, 5))], abs=1e-8)


def rms_of_before(clip: Tensor, t: int) -> float:
    """RMS of the dense state of frame t - 1 over that of frame t, with a = 0.9 and b = 1."""
    states = [sum(0.9 ** (at - s) * clip[:, s, :1] for s in range(at + 1)) for at in (t - 1, t)]
    before, now = (float(cast(Tensor, state).square().mean().sqrt()) for state in states)
    return before / now


def test_means_are_over_the_clips_that_reach_a_frame() -> None:
    dense, pruned = Linear(0.9, 1.0), Linear(0.5, 0.8)
    long, short = random_clip(4), random_clip(2)
    both = errors_of(pruned, dense, long, short)["h"]
    single = [errors_of(pruned, dense, clip)["h"] for clip in (long, short)]
    for part in ("total", "made_here", "propagated"):
        of_long, of_short = (getattr(errors, part) for errors in single)
        means = [(a + b) / 2 for a, b in zip(of_long, of_short, strict=False)]
        assert getattr(both, part) == pytest.approx([*means, *of_long[2:]], abs=2e-8)


def test_both_points_are_compared_with_one_dense_network() -> None:
    clip = random_clip(4)
    cut = errors_of(Linear(0.9, 1.0), Linear(0.9, 1.0), clip, cut=Linear(0.5, 0.8))
    assert cut == errors_of(Linear(0.5, 0.8), Linear(0.9, 1.0), clip)


def test_states_are_let_go_when_no_step_needs_them() -> None:
    """Of the dense network those of the present frame, the one before and, of a branch that goes back, the next."""
    dense, pruned = (random_network(RECURRENT["basicvsr_uni"], seed) for seed in (0, 1))
    held: list[weakref.ref[Tensor]] = []

    class Watched(type(dense)):  # type: ignore[misc]
        def states_handed_on(self, *given: Any) -> Iterator[States]:
            for states in super().states_handed_on(*given):
                held.append(weakref.ref(states["forward"]))
                yield states

    dense.__class__ = Watched
    tuned, cut, clip = StateErrors(pruned, CPU), StateErrors(pruned, CPU), random_clip(6)
    with torch.inference_mode():
        flows = pruned.flows_in_parts(clip)
        see = seen_beside(tuned, cut, dense, clip, flows)
        for t, states in enumerate(pruned.states_handed_on(clip, flows)):
            see(t, states)
            assert len(held) <= t + 2
            assert all(state() is None for state in held[: max(0, t - 1)])


def test_channels_that_are_gone_are_zeros_and_count() -> None:
    """Of four channels 1 and 3 are left: by hand."""
    pruned = SimpleNamespace(arguments=SimpleNamespace(branches=("h",)), stream_channels=lambda branch: (1, 3))
    compared = StateErrors(cast(Any, pruned), CPU)
    dense = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)  # squares: 30 in all
    own, alone = (torch.tensor(values).view(1, 2, 1, 1).expand(1, 2, 2, 2) for values in ([2.5, 3.0], [2.0, 3.0]))
    compared.add(0, {"h": own}, {"h": alone}, {"h": dense})
    errors = compared.by_branch()["h"]
    assert errors.total == pytest.approx([math.sqrt((1 + 9 + 0.25 + 1) / 30)], abs=1e-7)
    assert errors.made_here == pytest.approx([math.sqrt((1 + 9 + 0 + 1) / 30)], abs=1e-7)
    assert errors.propagated == pytest.approx([math.sqrt(0.25 / 30)], abs=1e-7)
    narrowed = compared.narrowed({"h": dense, "more": own})
    assert narrowed["h"][0, :, 0, 0].tolist() == [2, 4]
    assert narrowed["more"] is own


def test_states_of_zeros_that_agree_have_no_error() -> None:
    clip = torch.zeros(1, 3, 3, 2, 2)
    assert errors_of(Linear(0.5, 1.0), Linear(0.9, 1.0), clip)["h"] == HiddenError([0] * 3, [0] * 3, [0] * 3)


# Every network


def plan_of(network: Network, rule: str) -> PrunePlan:
    layout = network.channel_layout(rule)
    return PrunePlan.cutting(rule, layout, {g.name: [g.size - 1] for g in layout.groups if g.size > 1})


@every_recurrent_network
def test_the_dense_network_has_no_error_against_itself(name: str) -> None:
    network = random_network(RECURRENT[name], signed=True, dtype=torch.float32)
    for errors in errors_of(network, network, random_clip(11, dtype=torch.float32)).values():
        assert errors.total == errors.made_here == errors.propagated == [0] * 11


class Masked:
    """The dense network with the gates of cut units at zero: a channel that is cut from a state stays zero."""

    def __init__(self, network: Network, smaller: Network) -> None:
        zero_cut_gates(cast(Any, network), cast(PrunePlan, smaller.plan))
        self._network, self._smaller = network, smaller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def steps_alone(self, frames_NTCHW: Tensor, flows: Flows, given: Iterator[States]) -> Any:
        return self._network.steps_alone(
            frames_NTCHW, flows, ({k: self._zeroed(k, v) for k, v in s.items()} for s in given)
        )

    def _zeroed(self, key: str, state_NCHW: Tensor) -> Tensor:
        kept = self._smaller.stream_channels(key) if key in self._network.arguments.branches else None
        if kept is None:
            return state_NCHW
        places = torch.tensor(kept)
        return torch.zeros_like(state_NCHW).index_copy(1, places, state_NCHW[:, places])


@every_recurrent_network
@pytest.mark.parametrize("rule", RULES)
def test_masked_and_compact_networks_have_the_same_errors(name: str, rule: str) -> None:
    """Also where the compact one has fewer channels than the dense state."""
    dense = random_network(RECURRENT[name], signed=True)
    small, clip = compact(dense, plan_of(dense, rule)).eval(), random_clip(4)
    masked = Masked(random_network(RECURRENT[name], signed=True), small)
    gated, smaller = errors_of(masked, dense, clip), errors_of(small, dense, clip)
    assert list(gated) == list(smaller) == list(dense.arguments.branches)
    for branch, errors in gated.items():
        assert errors.propagated is not None
        assert max(errors.propagated) > 0.01
        for part in ("total", "made_here", "propagated"):
            assert getattr(smaller[branch], part) == pytest.approx(getattr(errors, part), abs=2e-8)


@every_recurrent_network
@pytest.mark.parametrize("rule", RULES)
def test_at_the_first_step_of_a_branch_all_error_is_made_there(name: str, rule: str) -> None:
    """To the bit. Of BasicVSR++ this holds for the branch that reads no other; later ones are handed its error."""
    dense = random_network(RECURRENT[name], signed=True, dtype=torch.float32)
    pruned = compact(dense, plan_of(dense, rule)).eval()
    errors = errors_of(pruned, dense, random_clip(5, dtype=torch.float32))
    first = {"forward": 0, "backward": -1, "backward_1": -1}
    for branch, of_branch in errors.items():
        assert of_branch.made_here is not None
        assert of_branch.propagated is not None
        at = first.get(branch)
        if at is None:
            assert min(of_branch.propagated) > 0
            continue
        assert of_branch.propagated[at] == 0
        assert of_branch.total[at] == of_branch.made_here[at] > 0
        assert min(of_branch.propagated[:at] if at else of_branch.propagated[1:]) > 0


@every_recurrent_network
def test_no_part_is_larger_than_the_others_allow(name: str) -> None:
    dense = random_network(RECURRENT[name], signed=True)
    for errors in errors_of(compact(dense, plan_of(dense, "rsc")).eval(), dense, random_clip(5)).values():
        assert errors.made_here is not None
        assert errors.propagated is not None
        for total, made, handed in zip(errors.total, errors.made_here, errors.propagated, strict=True):
            assert abs(made - handed) - 1e-7 <= total <= made + handed + 1e-7


class OnesOwn(OwnNetwork):
    """A state, and no word of what a step reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3 + 4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, frames_NTCHW: Tensor, flows: object = None) -> OwnOutput:
        state = frames_NTCHW.new_zeros(1, self.first.out_channels, *frames_NTCHW.shape[-2:])
        frames, states = [], []
        for frame in frames_NTCHW.unbind(1):
            state = self.first(torch.cat((frame, state), dim=1)).relu()
            frames.append(frame + self.last(state))
            states.append(state)
        return OwnOutput(torch.stack(frames, dim=1), {"state": states})


def test_a_network_of_ones_own_has_the_whole_error_alone() -> None:
    one, other = (OnesOwn().eval() for _ in range(2))
    for network in (one, other):
        network.arguments = SimpleNamespace(branches=("state",))
    errors = errors_of(one, other, random_clip(3, dtype=torch.float32))["state"]
    assert errors.made_here is errors.propagated is None
    assert len(errors.total) == 3
    assert min(errors.total) > 0
