"""The growing penalty: the published schedule, and lambda * gamma as gradient on every kind of gate."""

import pytest
import torch

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.pruning.gates import cut_gates, zero_cut_gates
from vsrprune.pruning.penalty import CutGates, Growth

WEIGHT = 0.07


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (4, 0.0), (5, 1e-4), (9, 1e-4), (10, 2e-4), (4999, 0.0999), (5000, 0.1), (5005, 0.1), (19000, 0.1)],
)
def test_published_schedule(step: int, expected: float) -> None:
    assert Growth(growth=1e-4, interval=5, maximum=0.1).at(step) == pytest.approx(expected, rel=1e-12)


def test_schedule_never_passes_the_maximum() -> None:
    weights = [Growth(growth=0.3, interval=1, maximum=1.0).at(step) for step in range(8)]
    assert weights == pytest.approx([0.0, 0.3, 0.6, 0.9, 1.0, 1.0, 1.0, 1.0])


def plan_for(network, rule: str) -> PrunePlan:
    """Cuts other units in every group, one or two of them, so that mixed-up groups show."""
    layout = network.channel_layout(rule)
    return PrunePlan.cutting(
        rule, layout, {g.name: [i % g.size, (i + 1) % g.size][: 1 + i % 2] for i, g in enumerate(layout.groups)}
    )


def expected_gradients(network, plan: PrunePlan) -> dict[str, torch.Tensor]:
    """By name of parameter: lambda * gamma at the cut units, else 0."""
    gradients = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for group in network.channel_layout(plan.rule).groups:
        for gate in group.gates:
            for unit in plan.cut(group.name):
                value = dict(network.named_parameters())[gate.parameter][unit]
                gradients[gate.parameter][unit] = WEIGHT * value.detach()
    return gradients


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_gradient_is_weight_times_gamma_and_nothing_else(rule: str, bidirectional: bool, random_network) -> None:
    network = random_network(bidirectional)
    plan = plan_for(network, rule)
    CutGates(network, plan).penalty(network, WEIGHT).backward()
    expected = expected_gradients(network, plan)
    touched = set()
    for name, parameter in network.named_parameters():
        got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(got, expected[name], rtol=1e-12, atol=0)
        if got.any():
            touched.add(name)
    assert touched == {gate.parameter for group in network.channel_layout(rule).groups for gate in group.gates}


def test_input_gates_get_their_own_gradient(random_network) -> None:
    """Not that of the output gates of the same convolution, which stand at other values."""
    network = random_network(blocks=1)
    name = "forward_trunk.blocks.0.conv1"
    plan = PrunePlan.cutting("rsc", network.channel_layout("rsc"), {f"{name}.input": [2]})
    with torch.no_grad():
        network.get_parameter(f"{name}.input_gate")[2] = 0.25
        network.get_parameter(f"{name}.gate")[2] = 8.0
    CutGates(network, plan).penalty(network, 0.1).backward()
    assert network.get_parameter(f"{name}.input_gate").grad.tolist() == pytest.approx([0, 0, 0.025, 0])
    assert network.get_parameter(f"{name}.gate").grad is None


@pytest.mark.parametrize("rule", RULES)
def test_value_and_gradient_equal_the_closed_form(rule: str, random_network) -> None:
    network = random_network()
    plan = plan_for(network, rule)
    leaves = {
        gate.parameter: network.get_parameter(gate.parameter).detach().clone().requires_grad_()
        for group in network.channel_layout(rule).groups
        for gate in group.gates
    }
    closed = torch.zeros((), dtype=torch.float64)
    for group in network.channel_layout(rule).groups:
        for gate in group.gates:
            for unit in plan.cut(group.name):
                closed = closed + WEIGHT / 2 * leaves[gate.parameter][unit] ** 2
    closed.backward()
    penalty = CutGates(network, plan).penalty(network, WEIGHT)
    penalty.backward()
    assert penalty.item() == pytest.approx(closed.item(), rel=1e-12)
    for name, leaf in leaves.items():
        torch.testing.assert_close(network.get_parameter(name).grad, leaf.grad, rtol=1e-12, atol=0)


def test_value_by_hand(random_network) -> None:
    network = random_network(bidirectional=False, blocks=1)
    with torch.no_grad():
        network.conv_hr.gate[1] = 2.0
        network.upconv1.gate[0] = -3.0
    plan = PrunePlan.cutting("rsc", network.channel_layout("rsc"), {"conv_hr": [1], "upconv1": [0]})
    assert CutGates(network, plan).penalty(network, 0.1).item() == pytest.approx(0.05 * (4 + 9), rel=1e-12)


def test_aligned_unit_pays_for_each_of_its_gates(random_network) -> None:
    network = random_network(blocks=2)
    with torch.no_grad():
        for gate in network.gate_parameters():
            gate.fill_(1.0)
    layout = network.channel_layout("aligned")
    plan = PrunePlan.cutting("aligned", layout, {"forward_trunk.stream": [3]})
    # the first convolution, and an input and an output gate in either of two blocks
    assert CutGates(network, plan).penalty(network, 2.0).item() == pytest.approx(5.0)


def test_a_plan_that_cuts_nothing_costs_nothing(random_network) -> None:
    network = random_network()
    plan = PrunePlan.keep_all("rsc", network.channel_layout("rsc"))
    assert CutGates(network, plan).penalty(network, 0.1).item() == 0.0
    assert CutGates(network, plan).magnitudes(network) == {}


@pytest.mark.parametrize("rule", RULES)
def test_cut_gates_are_zeroed_and_the_others_left(rule: str, random_network) -> None:
    network = random_network()
    plan = plan_for(network, rule)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    regularised = expected_gradients(network, plan)
    zero_cut_gates(network, plan)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, torch.where(regularised[name] != 0, 0.0, before[name])), name
    assert all(values.max() == 0 for values in CutGates(network, plan).magnitudes(network).values())


def test_cut_magnitudes_list_every_gate_of_a_unit(random_network) -> None:
    network = random_network(blocks=1)
    trunk = "backward_trunk"
    with torch.no_grad():
        network.get_parameter(f"{trunk}.first.gate")[1] = -4.0
        network.get_parameter(f"{trunk}.blocks.0.conv1.input_gate")[1] = 5.0
        network.get_parameter(f"{trunk}.blocks.0.conv2.gate")[1] = -6.0
    plan = PrunePlan.cutting("aligned", network.channel_layout("aligned"), {f"{trunk}.stream": [1]})
    magnitudes = CutGates(network, plan).magnitudes(network)
    assert {name: sorted(values.tolist()) for name, values in magnitudes.items()} == {f"{trunk}.stream": [4, 5, 6]}
    assert [name for name, _, _ in cut_gates(network, plan)] == [f"{trunk}.stream"] * 3
