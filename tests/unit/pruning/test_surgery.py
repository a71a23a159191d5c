"""Surgery: the compact network equals the gated one with the cut gates at zero, and the check can fail."""

import copy
import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.parts.layers import GatedConv2d
from vsrprune.pruning import surgery
from vsrprune.pruning.gates import group_gates, zero_cut_gates
from vsrprune.pruning.surgery import compact, equivalence_error

TOLERANCE = 1e-10
FAR_ABOVE = 1e-3
TRAINABLE_SEED = 1  # at random weights a narrow ReLU layer may be dead; here none is

both_directions = pytest.mark.parametrize("bidirectional", [True, False], ids=["bi", "uni"])
every_rule = pytest.mark.parametrize("rule", RULES)


@pytest.fixture(scope="session")
def shared_network(random_network):
    """One network per direction for tests that leave it alone."""
    return functools.cache(random_network)


def keeping(network, rule: str, kept: dict[str, set[int]]) -> PrunePlan:
    """Keep these units of the groups named, all of the others."""
    layout = network.channel_layout(rule)
    return PrunePlan.cutting(
        rule, layout, {g.name: set(range(g.size)) - kept.get(g.name, set(range(g.size))) for g in layout.groups}
    )


def one_channel_plan(network, rule: str) -> PrunePlan:
    """Each group keeps one unit, another one in every group."""
    groups = network.channel_layout(rule).groups
    return keeping(network, rule, {group.name: {index % group.size} for index, group in enumerate(groups)})


def half_plan(network, rule: str) -> PrunePlan:
    """Each group keeps half of its units, other ones in every group."""
    groups = network.channel_layout(rule).groups
    return keeping(
        network,
        rule,
        {g.name: {(index + 2 * k) % g.size for k in range(g.size // 2)} for index, g in enumerate(groups)},
    )


@every_rule
@both_directions
@given(data=st.data())
def test_compact_equals_masked(rule: str, bidirectional: bool, shared_network, random_clip, data) -> None:
    network = shared_network(bidirectional)
    kept = {
        group.name: data.draw(st.sets(st.integers(0, group.size - 1), min_size=1), label=group.name)
        for group in network.channel_layout(rule).groups
    }
    plan = keeping(network, rule, kept)
    assert equivalence_error(network, plan, random_clip(2, 5, 6), torch.float64) <= TOLERANCE


@every_rule
@both_directions
@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("size", [(7, 9), (3, 5), (8, 8)], ids=str)
@pytest.mark.parametrize("make_plan", [one_channel_plan, half_plan])
def test_lengths_and_odd_sizes(make_plan, size, length, bidirectional, rule, shared_network, random_clip) -> None:
    network = shared_network(bidirectional)
    error = equivalence_error(network, make_plan(network, rule), random_clip(length, *size), torch.float64)
    assert error <= TOLERANCE


@every_rule
@pytest.mark.parametrize("slope", [0.0, 0.1, 0.5])
def test_every_activation_slope(slope: float, rule: str, random_network, random_clip) -> None:
    network = random_network(slope=slope)
    assert equivalence_error(network, half_plan(network, rule), random_clip(3), torch.float64) <= TOLERANCE


@every_rule
@both_directions
@pytest.mark.parametrize("make_plan", [one_channel_plan, half_plan])
def test_scale_1(make_plan, bidirectional, rule, random_network, random_clip) -> None:
    network = random_network(bidirectional, upscale_factors=())
    error = equivalence_error(network, make_plan(network, rule), random_clip(3, 7, 9), torch.float64)
    assert error <= TOLERANCE


@every_rule
def test_float32_error_is_rounding_only(rule: str, random_network, random_clip) -> None:
    network = random_network(dtype=torch.float32)
    plan = half_plan(network, rule)
    frames_NTCHW = random_clip(3, dtype=torch.float32)
    assert equivalence_error(network, plan, frames_NTCHW, torch.float32) < 1e-4
    assert equivalence_error(network, plan, frames_NTCHW, torch.float64) <= TOLERANCE
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@every_rule
@both_directions
def test_equivalence_against_gates_zeroed_by_hand(rule, bidirectional, random_network, random_clip) -> None:
    """The same without `equivalence_error` and `zero_cut_gates`, hidden states included."""
    network = random_network(bidirectional)
    plan = half_plan(network, rule)
    pruned = compact(network, plan)
    with torch.no_grad():
        for group in network.channel_layout(rule).groups:
            for gate in group.gates:
                for unit in plan.cut(group.name):
                    network.get_parameter(gate.parameter)[unit] = 0.0
        expected, got = network(random_clip(3)), pruned(random_clip(3))
    torch.testing.assert_close(got.frames_NTCHW, expected.frames_NTCHW, rtol=0, atol=1e-12)
    for branch, states in expected.hidden.items():
        kept = plan.kept[f"{branch}_trunk.stream"] if rule == "aligned" else range(4)
        for state_NCHW, pruned_NCHW in zip(states, got.hidden[branch], strict=True):
            torch.testing.assert_close(pruned_NCHW, state_NCHW[:, list(kept)], rtol=0, atol=1e-12)


# The check can fail


@every_rule
@both_directions
def test_one_group_left_ungated_shows(rule, bidirectional, random_network, random_clip) -> None:
    """Leaving the gates of any single group at their values breaks the equality."""
    network = random_network(bidirectional)
    plan = half_plan(network, rule)
    frames_NTCHW = random_clip(2)
    for group in network.channel_layout(rule).groups:
        masked = copy.deepcopy(network)
        zero_cut_gates(masked, plan)
        with torch.no_grad():
            for gate, value in zip(group_gates(masked, group), group_gates(network, group), strict=True):
                gate.copy_(value)
            expected = masked(frames_NTCHW).frames_NTCHW
            got = compact(network, plan)(frames_NTCHW).frames_NTCHW
        assert (expected - got).abs().max() / expected.abs().max() > 1e-6, group.name


@every_rule
@pytest.mark.parametrize("length", [1, 2])
def test_gates_that_were_not_zeroed_are_reported(length, rule, shared_network, random_clip, monkeypatch) -> None:
    network = shared_network(True)
    monkeypatch.setattr(surgery, "zero_cut_gates", lambda network, plan: None)
    assert equivalence_error(network, half_plan(network, rule), random_clip(length), torch.float64) > FAR_ABOVE


@every_rule
def test_a_plan_that_keeps_another_unit_is_reported(rule, shared_network, random_clip, monkeypatch) -> None:
    network = shared_network(True)
    plan = half_plan(network, rule)
    other = keeping(network, rule, {**{name: set(kept) for name, kept in plan.kept.items()}, "upconv1": {1, 2}})
    assert set(plan.kept["upconv1"]) != {1, 2}
    monkeypatch.setattr(surgery, "zero_cut_gates", lambda network, plan: zero_cut_gates(network, other))
    assert equivalence_error(network, plan, random_clip(2), torch.float64) > FAR_ABOVE


@every_rule
def test_surgery_that_takes_the_wrong_filters_is_reported(rule, shared_network, random_clip, monkeypatch) -> None:
    network = shared_network(True)
    plan = half_plan(network, rule)
    assert equivalence_error(network, plan, random_clip(2), torch.float64) <= TOLERANCE
    right = surgery._filters
    monkeypatch.setattr(surgery, "_filters", lambda conv, plan: right(conv, plan).flip(0))
    assert equivalence_error(network, plan, random_clip(2), torch.float64) > FAR_ABOVE


# What else a compact network must be


@every_rule
@both_directions
def test_widths_and_weights_of_the_compact_network(rule, bidirectional, random_network) -> None:
    network = random_network(bidirectional)
    plan = half_plan(network, rule)
    pruned = compact(network, plan)
    assert pruned.plan == plan
    assert pruned.gate_parameters() == []
    assert not [name for name in pruned.state_dict() if "gate" in name]
    counts = plan.kept_counts
    for conv in network.channel_layout(rule).convs:
        weight = pruned.get_parameter(f"{conv.name}.weight")
        outputs = counts.get(conv.output.group, conv.output.size) * conv.filters_per_unit
        inputs = sum(counts.get(slot.group, slot.size) for slot in conv.inputs)
        assert tuple(weight.shape) == (outputs, inputs, conv.kernel, conv.kernel), conv.name
        assert weight.dtype == torch.float64
    for name, value in network.flow_net.state_dict().items():
        assert torch.equal(pruned.flow_net.state_dict()[name], value), name


def test_shuffle_group_and_its_reader_by_hand(random_network) -> None:
    """Keeping channels 0 and 2 of upconv1 keeps filters 0-3 and 8-11, and inputs 0 and 2 of upconv2."""
    network = random_network()
    pruned = compact(network, keeping(network, "inner", {"upconv1": {0, 2}}))
    filters = [0, 1, 2, 3, 8, 9, 10, 11]
    gate = network.upconv1.gate.detach()[[0, 0, 0, 0, 2, 2, 2, 2]]
    torch.testing.assert_close(pruned.upconv1.weight, network.upconv1.weight[filters] * gate.view(-1, 1, 1, 1))
    torch.testing.assert_close(pruned.upconv1.bias, network.upconv1.bias[filters] * gate)
    whole = network.upconv2.weight * network.upconv2.gate.repeat_interleave(4).view(-1, 1, 1, 1)
    torch.testing.assert_close(pruned.upconv2.weight, whole[:, [0, 2]])


def test_fusion_reads_the_kept_channels_of_both_branches(random_network) -> None:
    network = random_network()
    plan = keeping(network, "aligned", {"backward_trunk.stream": {3}, "forward_trunk.stream": {0, 2}})
    whole = network.fusion.weight * network.fusion.gate.view(-1, 1, 1, 1)
    torch.testing.assert_close(compact(network, plan).fusion.weight, whole[:, [3, 4, 6]])


@every_rule
@both_directions
def test_the_original_is_left_as_it_was(rule, bidirectional, random_network, random_clip) -> None:
    network = random_network(bidirectional)
    before = copy.deepcopy(network.state_dict())
    plan = half_plan(network, rule)
    equivalence_error(network, plan, random_clip(2), torch.float64)
    pruned = compact(network, plan)
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.fill_(7.0)  # a shared storage would show in the original
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert network.plan is None
    assert network.training


@every_rule
@both_directions
def test_keep_all_folds_the_gates(rule, bidirectional, random_network, random_clip) -> None:
    network = random_network(bidirectional)
    pruned = compact(network, PrunePlan.keep_all(rule, network.channel_layout(rule)))
    assert not any(isinstance(module, GatedConv2d) for module in pruned.modules())
    with torch.no_grad():
        expected, got = network(random_clip(3)).frames_NTCHW, pruned(random_clip(3)).frames_NTCHW
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    gates = sum(gate.numel() for gate in network.gate_parameters())
    size = sum(parameter.numel() for parameter in network.parameters())
    assert sum(parameter.numel() for parameter in pruned.parameters()) == size - gates


@every_rule
@both_directions
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_compact_networks_train(slope, rule, bidirectional, random_network, random_clip) -> None:
    """Every parameter gets a gradient, and it is the masked network's, divided by the gates that were folded in."""
    network = random_network(bidirectional, channels=6, upsampler_channels=6, slope=slope, seed=TRAINABLE_SEED)
    plan = half_plan(network, rule)
    pruned = compact(network, plan)
    zero_cut_gates(network, plan)
    gradients = []
    for each in (network, pruned):
        frames_NTCHW = random_clip(3).requires_grad_()
        output = each(frames_NTCHW)
        states = sum(state.square().sum() for branch in output.hidden.values() for state in branch)
        (output.frames_NTCHW.square().sum() + states).backward()
        gradients.append(frames_NTCHW.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-9)
    for name, parameter in pruned.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
    for branch in network.arguments.branches:
        check_weight_gradients(network, pruned, plan, f"{branch}_trunk.blocks.1.conv1")
    check_weight_gradients(network, pruned, plan, "upconv2")


def check_weight_gradients(network, pruned, plan: PrunePlan, name: str) -> None:
    conv = network.get_submodule(name)
    layer = next(layer for layer in network.channel_layout(plan.rule).convs if layer.name == name)
    (source,) = layer.inputs
    inputs = list(range(source.size) if source.group is None else plan.kept[source.group])
    units, r2 = plan.kept[name], layer.filters_per_unit
    filters = [unit * r2 + k for unit in units for k in range(r2)]
    factor = conv.gate.detach().repeat_interleave(r2)[filters].view(-1, 1, 1, 1)
    if conv.input_gate is not None:
        factor = factor * conv.input_gate.detach()[inputs].view(1, -1, 1, 1)
    got, expected = pruned.get_parameter(f"{name}.weight").grad, conv.weight.grad[filters][:, inputs] / factor
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@every_rule
def test_a_step_of_training_lowers_the_loss(rule, random_network, random_clip) -> None:
    network = random_network(dtype=torch.float32)
    pruned = compact(network, half_plan(network, rule))
    frames_NTCHW = random_clip(3, dtype=torch.float32)
    optimiser = torch.optim.Adam(pruned.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        loss = pruned(frames_NTCHW).frames_NTCHW.square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_a_plan_of_another_network_is_refused(random_network) -> None:
    plan = half_plan(random_network(blocks=1), "rsc")
    with pytest.raises(UserError, match=r"does not fit this network: group backward_trunk\.blocks\.1\.conv1 has"):
        compact(random_network(blocks=2), plan)
