"""Gates that are driven to zero have a rate of their own; all that stays trains on at the rate of the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.pruning.penalty import TARGETS, Growth
from vsrprune.stages.sparsify.module import Sparsify
from vsrprune.stages.sparsify.rates import share_updates
from vsrprune.stages.training.module import BETAS, Rates

ARGUMENTS = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, bidirectional=True, upscale_factors=(2, 2), slope=0.1, flow_levels=2,
    flow_kernel=3, flow_widths=(4,),
)  # fmt: skip
LR, GATE_LR = 2.0**-9, 2.0**-5


def dense() -> BasicVSR:
    torch.manual_seed(0)
    return BasicVSR(ARGUMENTS)


def plan(rule: str, whole: str = "") -> PrunePlan:
    """One unit of every layer goes, but for one layer that stays whole."""
    layout = dense().channel_layout(rule)
    return PrunePlan.cutting(rule, layout, {group.name: [1] for group in layout.groups if group.name != whole})


def sparsify(cut: PrunePlan, target: str = "gates") -> Sparsify:
    network = dense()
    rates, growth = Rates(LR, GATE_LR), Growth(0.1, 1, 1.0)
    return Sparsify(network, TARGETS[target](network, cut), steps=3, rates=rates, growth=growth)


def first_step(module: Sparsify) -> dict[str, Tensor]:
    """By how much every number moves in the first step, where every gradient is 1."""
    before = {name: value.detach().clone() for name, value in module.network.named_parameters()}
    optimizer = module.configure_optimizers()
    for parameter in module.network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {name: before[name] - value.detach() for name, value in module.network.named_parameters()}


@pytest.mark.parametrize("rule", ["rsc", "aligned", "inner"])
def test_the_first_step_of_adam_is_the_gates_rate_for_driven_gates_and_the_weights_rate_for_all_else(rule: str) -> None:
    cut = plan(rule)
    module = sparsify(cut)
    moved = first_step(module)
    driven = {
        gate.parameter: list(cut.cut(group.name))
        for group in module.network.channel_layout(rule).groups
        for gate in group.gates
    }
    assert driven
    for name, parameter in module.network.named_parameters():
        expected = torch.full_like(moved[name], LR if parameter.requires_grad else 0.0)
        for unit in driven.get(name, ()):
            expected[unit] = GATE_LR
        # Adam moves by rate * g / (|g| + 1e-8); what a gate of about 1 moves by is rounded to 6e-8.
        torch.testing.assert_close(moved[name], expected, rtol=0, atol=2e-7, msg=name)


def test_gates_of_a_layer_that_stays_whole_have_the_rate_of_the_weights() -> None:
    module = sparsify(plan("rsc", whole="fusion"))
    moved = first_step(module)
    torch.testing.assert_close(moved["fusion.gate"], torch.full((4,), LR), rtol=0, atol=2e-7)


def test_where_filters_are_driven_no_gate_has_a_rate_of_its_own() -> None:
    moved = first_step(sparsify(plan("aligned"), "filters"))
    gates = [values for name, values in moved.items() if name.endswith("gate")]
    assert gates
    for values in gates:
        torch.testing.assert_close(values, torch.full_like(values, LR), rtol=0, atol=2e-7)


def test_a_plan_that_cuts_nothing_trains_every_gate_at_the_rate_of_the_weights() -> None:
    network = dense()
    moved = first_step(sparsify(PrunePlan.keep_all("rsc", network.channel_layout("rsc"))))
    torch.testing.assert_close(moved["fusion.gate"], torch.full((4,), LR), rtol=0, atol=2e-7)


def test_a_share_of_the_updates_is_adam_at_that_share_of_the_rate() -> None:
    # Independently: every number is a tensor of its own, with a rate of its own.
    torch.manual_seed(0)
    start, shares = (
        torch.randn(7, dtype=torch.float64),
        torch.tensor([1, 0.25, 1, 0.1, 3, 0.25, 1], dtype=torch.float64),
    )
    vectors = [nn.Parameter(values.clone()) for values in start.split([3, 4])]
    alone = [nn.Parameter(value.clone()) for value in start]
    together = Adam(vectors, lr=0.1, betas=BETAS)
    apart = Adam(
        [{"params": [p], "lr": 0.1 * share} for p, share in zip(alone, shares.tolist(), strict=True)], betas=BETAS
    )
    share_updates(together, vectors, shares)
    for _ in range(20):
        gradients = torch.randn(7, dtype=torch.float64)
        for vector, gradient in zip(vectors, gradients.split([3, 4]), strict=True):
            vector.grad = gradient
        for parameter, gradient in zip(alone, gradients, strict=True):
            parameter.grad = gradient
        together.step()
        apart.step()
    torch.testing.assert_close(torch.cat(vectors), torch.stack(list(alone)), rtol=1e-12, atol=1e-12)


def test_a_share_of_one_leaves_the_bits_of_the_update() -> None:
    torch.manual_seed(0)
    vector = nn.Parameter(torch.randn(1000))
    plain = copy.deepcopy(vector)
    shared, other = Adam([vector], lr=0.02), Adam([plain], lr=0.02)
    share_updates(shared, [vector], torch.ones(1000))
    for _ in range(5):
        gradient = torch.randn(1000)
        vector.grad, plain.grad = gradient, gradient.clone()
        shared.step()
        other.step()
    assert torch.equal(vector, plain)
