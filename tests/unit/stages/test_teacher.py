"""What the dense network teaches: losses by their formulas, and nothing where a weight is 0."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch

from vsrprune.channels.plan import PrunePlan
from vsrprune.data.sampling import Batch
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.pruning.losses import charbonnier, temporal_loss
from vsrprune.pruning.penalty import TARGETS, Growth
from vsrprune.pruning.surgery import compact
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.scratch import Scratch
from vsrprune.stages.sparsify.module import Sparsify
from vsrprune.stages.training.module import Rates
from vsrprune.stages.training.teacher import Teacher

ARGUMENTS = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, flow_levels=2, flow_kernel=3, flow_widths=(4,)
)
RUN = {"steps": 3, "lr": 1e-3, "shape": "constant"}


@pytest.fixture
def dense() -> BasicVSR:
    torch.manual_seed(0)
    return BasicVSR(ARGUMENTS)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.rand(2, 3, 3, 8, 8, generator=generator), torch.rand(2, 3, 3, 32, 32, generator=generator))


def plan_of(dense: BasicVSR, rule: str, cut: int = 2) -> PrunePlan:
    layout = dense.channel_layout(rule)
    return PrunePlan.cutting(rule, layout, {group.name: range(group.size - cut, group.size) for group in layout.groups})


def cut_units(network: BasicVSR, plan: PrunePlan) -> Iterator[tuple[torch.Tensor, list[int]]]:
    """The gates of what a plan cuts, to be changed in place, and their places."""
    for group in network.channel_layout(plan.rule).groups:
        units = sorted(set(range(group.size)) - set(plan.kept[group.name]))
        for gate in group.gates:
            yield network.get_parameter(gate.parameter).data, units


@pytest.mark.parametrize("rule", ["rsc", "aligned", "inner"])
def test_finetuning_losses_are_their_formulas(rule: str, dense: BasicVSR, batch: Batch) -> None:
    student = compact(dense, plan_of(dense, rule))
    module = Finetune(student, Teacher(copy.deepcopy(dense), 3.0, 0.5), train_flow=False, **RUN)
    losses = module.losses(batch)
    output, target = student(batch.low_NTCHW), dense(batch.low_NTCHW)
    channels = {branch: student.stream_channels(branch) for branch in target.hidden}
    kept = {branch: None if places is None else torch.tensor(places) for branch, places in channels.items()}
    assert losses["reconstruction"].item() == pytest.approx(charbonnier(output.frames_NTCHW, batch.high_NTCHW).item())
    assert losses["temporal"].item() == pytest.approx(3 * temporal_loss(output.hidden, target.hidden, kept).item())
    assert losses["output"].item() == pytest.approx(0.5 * charbonnier(output.frames_NTCHW, target.frames_NTCHW).item())
    assert set(losses) == {"reconstruction", "temporal", "output"}


@pytest.mark.parametrize(("tf_weight", "output_weight"), [(1.0, 0.0), (0.0, 1.0)])
def test_a_weight_of_zero_costs_nothing(
    tf_weight: float, output_weight: float, dense: BasicVSR, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = compact(dense, plan_of(dense, "rsc"))
    module = Finetune(student, Teacher(dense, tf_weight, output_weight), train_flow=False, **RUN)
    upsampled = []
    whole = BasicVSR.upsample

    def counting(network: BasicVSR, *inputs: torch.Tensor) -> torch.Tensor:
        upsampled.append(network)
        return whole(network, *inputs)

    monkeypatch.setattr(BasicVSR, "upsample", counting)
    losses = module.losses(batch)
    assert set(losses) == {"reconstruction", "temporal" if tf_weight else "output"}
    assert sum(network is dense for network in upsampled) == (3 if output_weight else 0)


def test_the_teacher_is_no_part_of_its_student(dense: BasicVSR, batch: Batch) -> None:
    student = compact(dense, plan_of(dense, "rsc"))
    before = copy.deepcopy(dense.state_dict())
    module = Finetune(student, Teacher(dense, 1.0, 1.0), train_flow=False, **RUN)
    assert set(module.state_dict()) == {f"network.{name}" for name in student.state_dict()}
    torch.stack(list(module.losses(batch).values())).sum().backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in dense.parameters())
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())
    assert any(parameter.grad is not None for parameter in student.parameters())


def test_the_teacher_lies_in_memory_as_it_is_told(dense: BasicVSR) -> None:
    student = compact(dense, plan_of(dense, "rsc"))
    module = Finetune(student, Teacher(dense, 1.0, 0.0), train_flow=False, **RUN)
    for asked, last in ((torch.preserve_format, False), (torch.channels_last, True), (torch.preserve_format, True)):
        module.teacher_format = asked
        module.on_fit_start()
        weight = dense.get_parameter("conv_last.weight")
        assert weight.is_contiguous(memory_format=torch.channels_last) is last


@pytest.mark.parametrize("rule", ["rsc", "aligned", "inner"])
def test_right_after_the_cut_the_sparsified_teacher_asks_for_nothing_but_the_remainder(
    rule: str, dense: BasicVSR, batch: Batch
) -> None:
    """The loss falls with what the penalty left in the cut gates, to the floor of the Charbonnier distance."""
    plan, losses = plan_of(dense, rule), []
    for remainder in (1e-1, 1e-2, 0.0):
        sparsified = copy.deepcopy(dense)
        for gate, units in cut_units(sparsified, plan):
            gate[units] = remainder
        module = Finetune(compact(sparsified, plan), Teacher(sparsified, 1.0, 0.0), train_flow=False, **RUN)
        losses.append(module.losses(batch)["temporal"].item())
    assert losses[0] > losses[1] > losses[2]
    assert losses[1] == pytest.approx(losses[0] / 10, rel=0.3)
    assert losses[2] < 2e-6


@pytest.mark.parametrize("taught", [False, True])
def test_sparsifying_follows_the_dense_states_if_asked_to(taught: bool, dense: BasicVSR, batch: Batch) -> None:
    plan, network = plan_of(dense, "rsc"), copy.deepcopy(dense)
    with torch.no_grad():
        network.get_parameter("conv_hr.weight").mul_(1.1)
        network.get_parameter("backward_trunk.first.weight").mul_(1.1)
    module = Sparsify(
        network,
        TARGETS["gates"](network, plan),
        steps=3,
        rates=Rates(1e-3, 1e-2),
        growth=Growth(0.1, 1, 1.0),
        teacher=Teacher(dense, 3.0, 0.0) if taught else None,
    )
    losses, output, target = module.losses(batch), network(batch.low_NTCHW), dense(batch.low_NTCHW)
    assert losses["reconstruction"].item() == pytest.approx(charbonnier(output.frames_NTCHW, batch.high_NTCHW).item())
    assert set(losses) == {"reconstruction", *(["temporal"] if taught else [])}
    if taught:
        expected = 3 * temporal_loss(output.hidden, target.hidden, dict.fromkeys(target.hidden))
        assert losses["temporal"].item() == pytest.approx(expected.item())
        assert expected > 0.01


def test_states_of_another_width_are_compared_through_adaptors(dense: BasicVSR, batch: Batch) -> None:
    student = BasicVSR(ARGUMENTS).with_plan(plan_of(dense, "aligned", cut=1))
    module = Scratch(student, Teacher(dense, 2.0, 0.5), trained_flow=None, **RUN)
    losses = module.losses(batch)
    output, target = student(batch.low_NTCHW), dense(batch.low_NTCHW)
    adapted = {
        branch: [module.adaptors[f"{branch}_adaptor"](state) for state in states]
        for branch, states in output.hidden.items()
    }
    expected = 2 * temporal_loss(adapted, target.hidden, dict.fromkeys(adapted))
    assert losses["temporal"].item() == pytest.approx(expected.item())
    torch.stack(list(losses.values())).sum().backward()
    trained = {id(parameter) for group in module.parameter_groups() for parameter in group["params"]}
    for parameter in module.adaptors.parameters():
        assert parameter.grad is not None
        assert id(parameter) in trained
    assert not any("adaptors" in name for name in student.state_dict())


def test_a_narrow_network_alone_learns_from_the_truth(dense: BasicVSR, batch: Batch) -> None:
    module = Scratch(BasicVSR(ARGUMENTS).with_plan(plan_of(dense, "aligned")), None, trained_flow=None, **RUN)
    assert set(module.losses(batch)) == {"reconstruction"}
    assert len(module.adaptors) == 0
