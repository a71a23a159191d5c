"""Cost: what the layout calculates is what the network's own operations count."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from vsrprune.channels.layout import RULES, ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.metrics.cost import network_cost
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.pruning.surgery import compact

SIZE = (12, 20)

both_directions = pytest.mark.parametrize("bidirectional", [True, False], ids=["bi", "uni"])
every_rule = pytest.mark.parametrize("rule", RULES)


def small_network(bidirectional: bool = True, factors: tuple[int, ...] = (2, 2)) -> BasicVSR:
    return BasicVSR(
        BasicVSRArguments(
            channels=5,
            blocks=2,
            upsampler_channels=6,
            bidirectional=bidirectional,
            upscale_factors=factors,
            flow_levels=2,
            flow_kernel=3,
            flow_widths=(4,),
        )
    )


def parameters_by_layout(layout: ChannelLayout, plan: PrunePlan) -> int:
    """Weights and one bias per filter."""
    counts = plan.kept_counts
    total = 0
    for conv in layout.convs:
        filters = counts.get(conv.output.group, conv.output.size) * conv.filters_per_unit
        inputs = sum(counts.get(slot.group, slot.size) for slot in conv.inputs)
        total += filters * (conv.kernel**2 * inputs + 1)
    return total


def drawn_plan(data: st.DataObject, rule: str, layout: ChannelLayout) -> PrunePlan:
    kept = {
        group.name: tuple(sorted(data.draw(st.sets(st.integers(0, group.size - 1), min_size=1), label=group.name)))
        for group in layout.groups
    }
    return PrunePlan(rule, {group.name: group.size for group in layout.groups}, kept)


def counted_macs(network: BasicVSR, frames_NTCHW: torch.Tensor) -> int:
    """MACs of a real forward pass on numbers, flow net excluded."""
    flows = network.flows(frames_NTCHW)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(frames_NTCHW, flows)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


@every_rule
@both_directions
@given(data=st.data())
def test_analytic_macs_equal_counted_macs(rule: str, bidirectional: bool, data: st.DataObject) -> None:
    factors = data.draw(st.sampled_from([(2, 2), (3,), (2,)]))
    network = small_network(bidirectional, factors)
    layout = network.channel_layout(rule)
    plan = drawn_plan(data, rule, layout)
    pruned = compact(network, plan)
    assert counted_macs(pruned, torch.rand(1, 2, 3, 3, 5)) == layout.macs_per_pixel(plan.kept_counts) * 2 * 3 * 5
    size = sum(p.numel() for name, p in pruned.named_parameters() if not name.startswith("flow_net"))
    assert size == parameters_by_layout(layout, plan)


@every_rule
@both_directions
@pytest.mark.parametrize("factors", [(2, 2), (3,)], ids=str)
def test_network_cost_of_a_pruned_network(rule: str, bidirectional: bool, factors: tuple[int, ...]) -> None:
    network = small_network(bidirectional, factors)
    layout = network.channel_layout(rule)
    plan = PrunePlan.cutting(
        rule, layout, {g.name: {(i + k) % g.size for k in range(i % g.size)} for i, g in enumerate(layout.groups)}
    )
    pruned = compact(network, plan)
    cost = network_cost(pruned, SIZE)
    assert cost.macs == layout.macs_per_pixel(plan.kept_counts) * SIZE[0] * SIZE[1]
    assert cost.parameters == parameters_by_layout(layout, plan)
    for length in (1, 3):  # the cost of a frame does not depend on the length of the clip
        assert counted_macs(pruned, torch.rand(1, length, 3, *SIZE)) == cost.macs * length


@every_rule
def test_cutting_any_unit_is_cheaper(rule: str) -> None:
    with torch.device("meta"):
        network = small_network()
    layout = network.channel_layout(rule)
    whole = network_cost(network, SIZE)
    for group in layout.groups:
        with torch.device("meta"):
            cost = network_cost(network.with_plan(PrunePlan.cutting(rule, layout, {group.name: [0]})), SIZE)
        assert cost.macs < whole.macs, group.name
        assert cost.parameters < whole.parameters, group.name
        assert cost.macs_with_flow - cost.macs == whole.macs_with_flow - whole.macs


@both_directions
def test_gates_are_not_parameters_and_cost_nothing(bidirectional: bool) -> None:
    network = small_network(bidirectional)
    plan = PrunePlan.keep_all("rsc", network.channel_layout("rsc"))
    assert len(network.gate_parameters()) == (2 * (1 + 2 * 3) + 4 if bidirectional else 1 + 2 * 3 + 3)
    gated, folded = network_cost(network, SIZE), network_cost(compact(network, plan), SIZE)
    assert gated == folded
    gates = sum(gate.numel() for gate in network.gate_parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) == gated.parameters_with_flow + gates
    assert gated.parameters == parameters_by_layout(network.channel_layout("rsc"), plan)


@both_directions
def test_flow_net_by_hand(bidirectional: bool) -> None:
    """Two levels of two 3x3 convolutions, 8 -> 4 -> 2, at half and at full size; one call per branch and frame."""
    cost = network_cost(small_network(bidirectional), SIZE)
    per_pixel = 9 * (8 * 4 + 4 * 2)
    pixels = SIZE[0] * SIZE[1] * 5 // 4
    assert cost.macs_with_flow - cost.macs == per_pixel * pixels * (2 if bidirectional else 1)
    assert cost.parameters_with_flow - cost.parameters == 2 * (8 * 4 * 9 + 4 + 4 * 2 * 9 + 2)
    assert cost.size == SIZE


def test_flow_net_of_an_odd_size_works_on_the_next_multiple() -> None:
    odd, even = (network_cost(small_network(), size) for size in ((11, 19), (12, 20)))
    assert odd.macs_with_flow - odd.macs == even.macs_with_flow - even.macs
    assert odd.macs * 12 * 20 == even.macs * 11 * 19


def test_counting_leaves_the_network_alone() -> None:
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network_cost(network, SIZE)
    after = network.state_dict()
    assert all(value.device.type == "cpu" for value in after.values())
    assert all(torch.equal(after[name], value) for name, value in before.items())
