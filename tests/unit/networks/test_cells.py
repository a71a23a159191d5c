"""Other recurrences of BasicVSR: what each computes, what may be cut of it, and that every form of it is the same."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fused_on_cpu import use_on_cpu
from hypothesis import given
from hypothesis import strategies as st
from networks_made import random_clip, random_network, randomise, small_basicvsr
from numpy.typing import NDArray
from test_graphs import Again
from test_networks import random_plan
from torch import Tensor

from vsrprune.channels.layout import RULES
from vsrprune.channels.operations import Operation, TimeTable, Widths, forms
from vsrprune.channels.plan import PrunePlan
from vsrprune.cli import composed
from vsrprune.errors import UserError
from vsrprune.knobs import hints
from vsrprune.metrics.cost import network_cost
from vsrprune.networks.basicvsr.cells.gru import OPEN
from vsrprune.networks.basicvsr.cells.spec import SHAPES
from vsrprune.networks.basicvsr.cells.table import CELLS
from vsrprune.networks.basicvsr.export import OnlineStep, Step, UpsamplerStep
from vsrprune.networks.basicvsr.frozen import FrozenBasicVSR
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.fast.blocks import COUNTS, READS, WRITES, Form
from vsrprune.networks.fast.device_operations import FORMATS
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.fast.fused import KERNELS, PLAIN
from vsrprune.networks.fast.graphs import Graphs
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.parts.layers import warp
from vsrprune.networks.table import identity_of
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.surgery import compact
from vsrprune.use.streaming import Pieces, upscaled_frames

LATER_CELLS = [name for name in SHAPES if name != BasicVSRArguments().cell]
every_cell = pytest.mark.parametrize("cell", LATER_CELLS)
every_rule = pytest.mark.parametrize("rule", RULES)
both_directions = pytest.mark.parametrize("bidirectional", [True, False], ids=["bi", "uni"])


def shape(cell: str, bidirectional: bool = True, **changes: Any) -> BasicVSRArguments:
    return small_basicvsr(bidirectional, **{"channels": 6, "cell": cell, **changes})


def dense(cell: str, bidirectional: bool = True, **changes: Any) -> BasicVSR:
    network = random_network(shape(cell, bidirectional, **changes), signed=True)
    assert isinstance(network, BasicVSR)
    return network


def compact_cell(cell: str, rule: str, bidirectional: bool = True, seed: int = 0, **changes: Any) -> BasicVSR:
    network = dense(cell, bidirectional, **changes)
    return compact(network, random_plan(network.channel_layout(rule), rule, seed)).eval()


def assert_equal(got: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_every_cell_has_a_shape_and_a_step() -> None:
    assert list(SHAPES) == list(CELLS)
    assert set(BasicVSRArguments.__dataclass_fields__["cell"].metadata["knob"].choices) == set(CELLS)
    assert hints(BasicVSRArguments)["cell"] is str


# What each computes


@torch.no_grad()
def test_a_gru_step_of_one_channel_by_hand() -> None:
    """Frames of one pixel, of which only red is read: nothing of a kernel but its centre is seen."""
    network = BasicVSR(shape("gru", False, channels=1, blocks=1)).double()
    trunk = network.get_submodule("forward_trunk")
    for parameter in trunk.parameters():
        parameter.zero_()
    for gate in network.gate_parameters():
        gate.fill_(1.0)
    # Inputs are red, green, blue and the state.
    trunk.reset.weight.copy_(torch.tensor([-1.0, 5, 5, 2]).view(1, 4, 1, 1))
    trunk.reset.bias.fill_(math.log(3))
    trunk.update.weight.copy_(torch.tensor([1.0, 5, 5, 2]).view(1, 4, 1, 1))
    trunk.update.bias.fill_(math.log(4) - 2)
    trunk.first.weight[0, :, 1, 1] = torch.tensor([3.0, 5, 5, 4]).double()
    trunk.first.bias.fill_(-1.0)
    trunk.blocks[0].conv1.weight[0, 0, 1, 1] = 2.0
    trunk.blocks[0].conv2.weight[0, 0, 1, 1] = 0.5
    trunk.blocks[0].conv2.bias.fill_(0.25)
    red_NCHW = torch.tensor([1.0, 0, 0]).double().view(1, 3, 1, 1)
    still_N2HW = torch.zeros(1, 2, 1, 1).double()
    # r = s(-1 + 2/2 + ln 3) = 3/4; z = s(1 + 2/2 + ln 4 - 2) = 4/5. The first convolution: 3 + 4 * 3/4 * 1/2 - 1 = 3.5;
    # the block adds 3.5 * 2 * 0.5 + 0.25, so that the candidate is 7.25. h' = 1/5 * 1/2 + 4/5 * 7.25.
    state_NCHW = torch.full((1, 1, 1, 1), 0.5).double()
    assert trunk.step(red_NCHW, state_NCHW, still_N2HW).item() == pytest.approx(5.9, abs=1e-12)
    # From zeros, without a flow: z = s(ln 4 - 1); candidate 2 (3 - 1) + 0.25.
    first = trunk.step(red_NCHW, trunk.start(red_NCHW), None)
    assert first.item() == pytest.approx(4.25 / (1 + math.e / 4), abs=1e-12)


@torch.no_grad()
def test_a_new_gru_is_nearly_the_residual_cell() -> None:
    """Its gates are open: by the logistic function of OPEN, up to what small weights add."""
    torch.manual_seed(0)
    trunk = BasicVSR(shape("gru", channels=16)).get_submodule("forward_trunk")
    for gate_NCHW in trunk.gates(torch.rand(1, 19, 8, 8)):  # type: ignore[operator]
        assert float((gate_NCHW - 1 / (1 + math.exp(-OPEN))).abs().max()) < 0.05


def sampled(map_CHW: NDArray[Any], flow_2HW: NDArray[Any]) -> NDArray[Any]:
    """Bilinear sampling at every pixel's place plus its flow, pixel by pixel; zeros outside."""
    _, height, width = map_CHW.shape
    result = np.zeros_like(map_CHW)
    for y, x in itertools.product(range(height), range(width)):
        at_x, at_y = x + flow_2HW[0, y, x], y + flow_2HW[1, y, x]
        top, left = math.floor(at_y), math.floor(at_x)
        for row, column in itertools.product((top, top + 1), (left, left + 1)):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(at_y - row)) * (1 - abs(at_x - column))
                result[:, y, x] += share * map_CHW[:, row, column]
    return result


@both_directions
@torch.no_grad()
def test_second_order_states_are_those_of_a_plain_loop(bidirectional: bool) -> None:
    network, clip_NTCHW = dense("second_order", bidirectional), random_clip(5)
    generator = torch.Generator().manual_seed(3)
    flows = {
        branch: 3 * torch.randn(1, 4, 2, 7, 9, generator=generator, dtype=torch.float64)
        for branch in network.arguments.branches
    }
    hidden = network(clip_NTCHW, flows).hidden
    for branch in network.arguments.branches:
        trunk, way = network.get_submodule(f"{branch}_trunk"), list(range(5))[:: -1 if branch == "backward" else 1]
        made = {}
        for place, t in enumerate(way):
            states = [np.zeros((6, 7, 9)), np.zeros((6, 7, 9))]
            if place > 0:
                one = way[place - 1]
                flow_2HW = flows[branch][0, min(t, one)].numpy()
                states[0] = sampled(made[one], flow_2HW)
            if place > 1:
                two = way[place - 2]
                states[1] = sampled(made[two], flow_2HW + sampled(flows[branch][0, min(one, two)].numpy(), flow_2HW))
            joined = torch.cat((clip_NTCHW[0, t], *map(torch.from_numpy, states))).unsqueeze(0)
            x = torch.nn.functional.leaky_relu(trunk.first(joined), 0.1)
            for block in trunk.blocks:  # type: ignore[union-attr]
                x = x + block.conv2(torch.relu(block.conv1(x)))  # type: ignore[operator,union-attr]
            made[t] = x[0].numpy()
            np.testing.assert_allclose(hidden[branch][t][0], made[t], rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_what_a_second_order_step_hands_on_by_hand() -> None:
    """The state, the flow, and the state before: of one pixel's motion in x, then one in y."""
    network = dense("second_order", False)
    trunk = network.get_submodule("forward_trunk")
    first_NCHW, second_NCHW, third_NCHW = random_clip(3)[0].unsqueeze(1)
    right_N2HW, down_N2HW = torch.zeros(2, 1, 2, 7, 9).double()
    right_N2HW[:, 0], down_N2HW[:, 1] = 1.0, 1.0
    one = trunk.step(first_NCHW, trunk.start(first_NCHW), None)
    two = trunk.step(second_NCHW, one, right_N2HW)
    assert not one[:, 6:].any()
    assert torch.equal(two[:, 6:8], right_N2HW)
    assert torch.equal(two[:, 8:], one[:, :6])
    seen: list[Tensor] = []
    trunk.first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    trunk.step(third_NCHW, two, down_N2HW)
    near_NCHW, far_NCHW = seen[0][:, 3:9], seen[0][:, 9:]
    assert_equal(near_NCHW[..., :-1, :], two[:, :6, 1:])
    # Over two frames the motion is one pixel each way, but for the last row, whose flow lies outside of the frame.
    assert_equal(far_NCHW[..., :-1, :-1], one[:, :6, 1:, 1:])
    assert float(near_NCHW[..., -1, :].abs().max()) < 1e-12


# What may be cut


@given(st.sampled_from(LATER_CELLS), st.sampled_from(RULES), st.booleans(), st.integers(0, 2**32 - 1))
def test_compact_equals_masked_for_every_cell(cell: str, rule: str, bidirectional: bool, seed: int) -> None:
    network, clip_NTCHW = dense(cell, bidirectional, channels=5, blocks=1), random_clip(4, 5, 6)
    plan = random_plan(network.channel_layout(rule), rule, seed)
    smaller, masked = compact(network, plan).eval(), copy.deepcopy(network)
    zero_cut_gates(masked, plan)
    with torch.no_grad():
        got, expected = smaller(clip_NTCHW), masked(clip_NTCHW)
    assert_equal(got.frames_NTCHW, expected.frames_NTCHW)
    for branch, states in got.hidden.items():
        kept = list(smaller.stream_channels(branch) or range(5))
        for state, whole in zip(states, expected.hidden[branch], strict=True):
            assert_equal(state, whole[:, kept], 1e-11)
            assert not whole[:, [channel for channel in range(5) if channel not in kept]].any()


@every_rule
@both_directions
def test_gates_and_every_state_that_is_read_go_with_the_stream(rule: str, bidirectional: bool) -> None:
    for cell, cell_shape in SHAPES.items():
        layout = basicvsr_layout(shape(cell, bidirectional), rule)
        convs = {conv.name: conv for conv in layout.convs}
        assert layout.groups == basicvsr_layout(shape("residual", bidirectional), rule).groups
        for branch in shape(cell, bidirectional).branches:
            group = f"{branch}_trunk.stream" if rule == "aligned" else None
            assert [s.group for s in convs[f"{branch}_trunk.first"].inputs] == [None, *[group] * cell_shape.states]
            for gate in cell_shape.gates:
                conv = convs[f"{branch}_trunk.{gate}"]
                assert (conv.output.group, [slot.group for slot in conv.inputs]) == (group, [None, group])


@every_cell
@every_rule
@both_directions
def test_costs_count_gates_and_states(cell: str, rule: str, bidirectional: bool) -> None:
    network = dense(cell, bidirectional).float()
    layout = network.channel_layout(rule)
    plan = random_plan(layout, rule, 1)
    for kept, counted in (
        ({}, network_cost(network, (8, 12))),
        (plan.kept_counts, network_cost(compact(network, plan), (8, 12))),
    ):
        assert layout.macs_per_pixel(kept) * 96 == counted.macs
        assert layout.parameters(kept) == counted.parameters
    branches = len(network.arguments.branches)
    usual = basicvsr_layout(shape("residual", bidirectional), rule)
    # By hand: two 1x1 convolutions of 3 + 6 channels to 6, or 3x3 weights of 6 more channels to 6.
    more = branches * {"gru": 2 * 9 * 6, "second_order": 9 * 6 * 6}[cell]
    assert layout.macs_per_pixel() - usual.macs_per_pixel() == more
    assert layout.parameters() - usual.parameters() == more + branches * {"gru": 2 * 6, "second_order": 0}[cell]


def test_the_time_of_a_gru_is_that_of_its_gates_too() -> None:
    """By a table in which every operation takes a millisecond."""
    (conv,) = [c for c in basicvsr_layout(shape("gru", False), "rsc").convs if c.name == "forward_trunk.reset"]
    widths = Widths(reads=9, writes=6)
    (form,) = forms(conv, widths)
    assert form == (Operation("conv", 9, 6, 1), Operation("activation", 6, 6))
    assert TimeTable(dict.fromkeys(form, 1.0)).conv_ms(conv, widths) == 2.0


@every_cell
@every_rule
def test_every_parameter_of_a_compact_cell_learns(cell: str, rule: str) -> None:
    network = BasicVSR(shape(cell, channels=8)).double()
    layout = network.channel_layout(rule)
    smaller = network.with_plan(PrunePlan.cutting(rule, layout, {g.name: range(0, g.size, 2) for g in layout.groups}))
    randomise(smaller, signed=True)
    smaller.train()(random_clip(4)).frames_NTCHW.square().mean().backward()
    assert [key for key, p in smaller.named_parameters() if p.grad is None or not p.grad.any()] == []


# Every form is the same function


@every_cell
@every_rule
@both_directions
def test_frozen_forms_are_the_cell(cell: str, rule: str, bidirectional: bool) -> None:
    network, clip_NTCHW = compact_cell(cell, rule, bidirectional), random_clip(4, batch=2)
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    for read, write, memory_format in itertools.product(READS, WRITES, FORMATS.values()):
        frozen = FrozenBasicVSR(network, lambda block, r=read, w=write: Form(r, w)).to(memory_format=memory_format)  # type: ignore[call-overload,misc]
        assert_equal(frozen(clip_NTCHW), expected, 1e-11)
        assert_equal(frozen(clip_NTCHW, network.flows(clip_NTCHW)), expected, 1e-11)


@every_cell
@both_directions
def test_whatever_reads_a_permuted_state_is_permuted_too(cell: str, bidirectional: bool) -> None:
    """Blocks that touch channels 3 and 5 alone put these first in the frozen state."""
    network = dense(cell, bidirectional)
    layout = network.channel_layout("rsc")
    ends = [group.name for group in layout.groups if group.kind in ("input", "output")]
    smaller = compact(network, PrunePlan.cutting("rsc", layout, dict.fromkeys(ends, (0, 1, 2, 4)))).eval()
    frozen = FrozenBasicVSR(smaller, lambda block: Form())
    assert frozen.get_submodule("forward_trunk").order == [3, 5, 0, 1, 2, 4]
    with torch.no_grad():
        assert_equal(frozen(random_clip(4)), smaller(random_clip(4)).frames_NTCHW, 1e-11)


@every_cell
@pytest.mark.parametrize("kernels", [name for name in KERNELS if name != PLAIN])
def test_fused_forms_are_the_cell(cell: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_on_cpu(monkeypatch)
    network, clip_NTCHW = compact_cell(cell, "rsc"), random_clip(3)
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    for counts in COUNTS:
        frozen = FrozenBasicVSR(network, lambda block, c=counts: Form("gather", "scatter", kernels, c), kernels)  # type: ignore[misc]
        assert_equal(frozen.to(memory_format=torch.channels_last)(clip_NTCHW), expected, 1e-11)  # type: ignore[call-overload]


@every_cell
@both_directions
def test_replayed_steps_are_the_cell(cell: str, bidirectional: bool) -> None:
    network = compact_cell(cell, "rsc", bidirectional)
    frozen = FrozenBasicVSR(network, lambda block: Form())
    frozen.call = Graphs(Again)
    for length in (4, 3):
        with torch.no_grad():
            assert_equal(frozen(random_clip(length)), network(random_clip(length)).frames_NTCHW, 1e-11)


@every_cell
@every_rule
def test_cells_in_sixteen_bits_differ_by_rounding_alone(cell: str, rule: str) -> None:
    network, clip_NTCHW = compact_cell(cell, rule).float(), random_clip(4).float()
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    frozen, _ = freeze(network, clip_NTCHW, lambda call: (call(), 1.0)[1], torch.bfloat16)  # type: ignore[func-returns-value]
    with torch.autocast("cpu", torch.bfloat16):
        trained = network.train()(clip_NTCHW).frames_NTCHW
    trained.float().square().mean().backward()
    for got in (frozen(clip_NTCHW), trained.detach().float()):
        assert 0 < float((got - expected).abs().mean()) < 0.03 * float(expected.abs().max())


@torch.no_grad()
def test_a_memory_keeps_its_flow_in_32_bits() -> None:
    """In sixteen a motion of 100.3 pixels would be one of 100.5."""
    network = compact_cell("second_order", "rsc", False).float()
    frozen, _ = freeze(network, random_clip(1).float(), lambda call: 1.0, torch.bfloat16)
    assert isinstance(frozen, FrozenBasicVSR)
    trunk, frame_NCHW = frozen.get_submodule("forward_trunk"), random_clip(1)[:, 0].float()
    flow_N2HW = torch.full((1, 2, 7, 9), 100.3)
    memory_NCHW = trunk.step(frame_NCHW, trunk.start(frame_NCHW), None)  # type: ignore[operator]
    memory_NCHW = trunk.step(frame_NCHW, memory_NCHW, flow_N2HW)  # type: ignore[operator]
    assert torch.equal(memory_NCHW[:, 6:8], flow_N2HW)


@every_cell
@pytest.mark.parametrize("window", [1, 3, 100])
def test_a_unidirectional_stream_is_the_whole_clip(cell: str, window: int) -> None:
    network, clip_NTCHW = compact_cell(cell, "rsc", False), random_clip(8)
    frozen = FrozenBasicVSR(network, lambda block: Form())
    frames = list(upscaled_frames(frozen, iter(clip_NTCHW.unbind(1)), Pieces(window, 0)))
    with torch.no_grad():
        assert_equal(torch.stack(frames, dim=1), network(clip_NTCHW).frames_NTCHW, 1e-11)


@every_cell
def test_a_window_is_the_whole_clip_where_the_overlap_reaches_the_end(cell: str) -> None:
    network, clip_NTCHW = compact_cell(cell, "aligned"), random_clip(7)
    frozen = FrozenBasicVSR(network, lambda block: Form())
    frames = torch.stack(list(upscaled_frames(frozen, iter(clip_NTCHW.unbind(1)), Pieces(4, 2))), dim=1)
    with torch.no_grad():
        expected = network(clip_NTCHW).frames_NTCHW
    assert_equal(frames[:, 4:], expected[:, 4:], 1e-11)
    assert not torch.allclose(frames[:, :4], expected[:, :4])


@every_cell
@both_directions
def test_frame_by_frame_a_cell_gives_the_clip(cell: str, bidirectional: bool) -> None:
    network, clip_NTCHW = dense(cell, bidirectional), random_clip(11)
    with torch.no_grad():
        whole, frames = network(clip_NTCHW), list(network.frame_by_frame(clip_NTCHW))
    assert_equal(torch.stack([frame.frame_NCHW for frame in frames], dim=1), whole.frames_NTCHW)
    for branch, states in whole.hidden.items():
        for frame, state in zip(frames, states, strict=True):
            assert_equal(frame.hidden[branch], state)


@every_cell
@every_rule
@torch.no_grad()
def test_exported_steps_of_a_cell_make_the_clip(cell: str, rule: str) -> None:
    """The first frame is its own predecessor there, so that its flow is not zero but its memory is."""
    network, clip_NTCHW = compact_cell(cell, rule), random_clip(4)
    memories = {}
    for branch in network.arguments.branches:
        step, way = Step(network, branch), list(range(4))[:: -1 if branch == "backward" else 1]
        before, memory_NCHW = clip_NTCHW[:, way[0]], torch.zeros(1, step.trunk.memory_width, 7, 9).double()  # type: ignore[call-overload]
        for t in way:
            memories[branch, t] = memory_NCHW = step(clip_NTCHW[:, t], before, memory_NCHW)
            before = clip_NTCHW[:, t]
    upsampler = UpsamplerStep(network)
    frames = [upsampler(clip_NTCHW[:, t], memories["backward", t], memories["forward", t]) for t in range(4)]
    assert_equal(torch.stack(frames, dim=1), network(clip_NTCHW).frames_NTCHW, 1e-11)


@every_cell
@every_rule
@torch.no_grad()
def test_online_steps_of_a_cell_make_the_clip(cell: str, rule: str) -> None:
    network, clip_NTCHW = compact_cell(cell, rule, False), random_clip(4)
    step, before = OnlineStep(network), clip_NTCHW[:, 0]
    memory_NCHW, frames = torch.zeros(1, step.step.trunk.memory_width, 7, 9).double(), []  # type: ignore[call-overload]
    for frame_NCHW in clip_NTCHW.unbind(1):
        high_NCHW, memory_NCHW = step(frame_NCHW, before, memory_NCHW)
        before = frame_NCHW
        frames.append(high_NCHW)
    assert_equal(torch.stack(frames, dim=1), network(clip_NTCHW).frames_NTCHW, 1e-11)


# Training


def windowed(cell: str, window: int, checkpointed: bool = False) -> BasicVSR:
    network = dense(cell)
    network.gradient_frames, network.checkpoint_frames = window, checkpointed
    return network.train()


@every_cell
def test_gradients_of_a_cell_stay_within_windows(cell: str) -> None:
    """The flows are given, so that frames of other windows are seen through states alone."""
    clip_NTCHW, outputs = random_clip(5).requires_grad_(), []
    for window in (0, 2):
        network = windowed(cell, window)
        with torch.no_grad():
            flows = network.flows(clip_NTCHW)
        outputs.append(network(clip_NTCHW, flows).frames_NTCHW)
        for t in range(5):
            (gradient,) = torch.autograd.grad(outputs[-1][:, t].square().sum(), clip_NTCHW, retain_graph=True)
            reached = {at for at in range(5) if gradient[:, at].any()}
            assert reached == (set(range(5)) if window == 0 else {t // 2 * 2, t // 2 * 2 + 1} & set(range(5)))
    assert torch.equal(*outputs)


@every_cell
@pytest.mark.parametrize("window", [0, 2])
def test_checkpointed_frames_of_a_cell_give_the_same_gradients(cell: str, window: int) -> None:
    gradients = []
    for checkpointed in (False, True):
        network = windowed(cell, window, checkpointed)
        network(random_clip(5)).frames_NTCHW.square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-15)


def test_gradients_of_second_order_are_those_of_windows_run_alone() -> None:
    """A window alone begins with the memory that was handed to it, as a constant."""
    network = windowed("second_order", 2)
    trunk = network.get_submodule("forward_trunk")
    clip_NTCHW, flows_NT2HW = random_clip(5), torch.randn(1, 4, 2, 7, 9, dtype=torch.float64)
    parameters = list(trunk.parameters())
    whole = network.hidden_states(clip_NTCHW, dict.fromkeys(network.arguments.branches, flows_NT2HW))["forward"]
    got = torch.autograd.grad(torch.stack(list(whole)).square().sum(), parameters)
    expected, memory_NCHW = [torch.zeros_like(parameter) for parameter in parameters], trunk.start(clip_NTCHW[:, 0])  # type: ignore[operator]
    for window in ((0, 1), (2, 3), (4,)):
        memory_NCHW, states = memory_NCHW.detach(), []
        for t in window:
            memory_NCHW = trunk.step(clip_NTCHW[:, t], memory_NCHW, flows_NT2HW[:, t - 1] if t else None)  # type: ignore[operator]
            states.append(memory_NCHW[:, :6])
        parts = torch.autograd.grad(torch.stack(states).square().sum(), parameters)
        expected = [total + part for total, part in zip(expected, parts, strict=True)]
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


# Files, keys and published weights


@every_cell
@pytest.mark.parametrize("rule", [None, *RULES])
def test_cells_come_back_from_files(cell: str, rule: str | None, tmp_path: Path) -> None:
    network = (dense(cell) if rule is None else compact_cell(cell, rule)).float()
    save_network(network, tmp_path)
    loaded = load_network(tmp_path).eval()
    assert loaded.arguments == network.arguments
    with torch.no_grad():
        assert torch.equal(loaded(random_clip(3).float()).frames_NTCHW, network(random_clip(3).float()).frames_NTCHW)


def test_the_usual_cell_is_in_no_key() -> None:
    usual = identity_of(shape("residual"))
    assert "cell" not in usual
    assert usual == identity_of(small_basicvsr(channels=6))
    assert [identity_of(shape(cell)) for cell in LATER_CELLS] == [{**usual, "cell": cell} for cell in LATER_CELLS]


@every_cell
@pytest.mark.parametrize("first", ["forward_trunk.main.0", "forward_resblocks.main.0"])
def test_published_weights_are_refused_for_another_cell(cell: str, first: str, tmp_path: Path) -> None:
    file = tmp_path / "published.pth"
    torch.save({"params": {f"{first}.weight": torch.zeros(6, 9, 3, 3), f"{first}.bias": torch.zeros(6)}}, file)
    with pytest.raises(UserError) as caught:
        load_dense(file, shape(cell))
    words = f"published weights are of model.cell=residual, and model.cell is {cell}"
    assert str(caught.value) == f"{file}: {words}; leave out the cell or these weights"


def test_a_cell_is_chosen_beside_a_preset() -> None:
    model = composed("model=basicvsr_uni_tiny", "model.cell=gru").model
    assert model.name == "basicvsr_uni_tiny"
    assert (model.arguments.cell, model.arguments.channels, model.arguments.bidirectional) == ("gru", 16, False)


def test_a_cell_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match=r"model.cell must be one of residual, gru, second_order; got 'lstm'"):
        shape("lstm")


@torch.no_grad()
def test_composed_flows_go_where_two_warps_go() -> None:
    """On whole pixels both are exact, so that the state of two frames ago is warped once instead of twice."""
    trunk = dense("second_order", False).get_submodule("forward_trunk")
    one_N2HW, two_N2HW = torch.zeros(2, 1, 2, 7, 9).double()
    one_N2HW[:, 0], two_N2HW[:, 0] = 1.0, 2.0
    state_NCHW = random_clip(2)[:, 0].repeat(1, 2, 1, 1)
    memory_NCHW = torch.cat((torch.zeros_like(state_NCHW), two_N2HW, state_NCHW), dim=1)
    seen: list[Tensor] = []
    trunk.first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))  # type: ignore[union-attr]
    trunk.step(random_clip(1)[:, 0], memory_NCHW, one_N2HW)  # type: ignore[operator]
    twice_NCHW = warp(warp(state_NCHW, two_N2HW), one_N2HW)
    # But for the last column, whose own flow is outside of the frame.
    assert_equal(seen[0][:, 9:, :, :-1], twice_NCHW[..., :-1])
