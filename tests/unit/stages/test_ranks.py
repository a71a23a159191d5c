"""Every stage that trains, divided between two processes, ends as it does in one.

Those of methods that normalise filters or hold zeros (align among them) are refused on more than one device.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from clips_made import DEMO

from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.pruning.penalty import TARGETS, Growth
from vsrprune.pruning.surgery import compact
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.scratch import Scratch
from vsrprune.stages.flow.module import FlowTraining
from vsrprune.stages.graph import RECIPES
from vsrprune.stages.pretrain.module import Pretrain, TrainedFlow
from vsrprune.stages.sparsify.module import Sparsify
from vsrprune.stages.training.fit import Sampling, Session, fit
from vsrprune.stages.training.hardware import Arithmetic, Hardware
from vsrprune.stages.training.module import Rates, TrainingStage
from vsrprune.stages.training.teacher import Teacher

STEPS = 4
ARGUMENTS = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, bidirectional=True, upscale_factors=(2, 2), slope=0.1, flow_levels=2,
    flow_kernel=3, flow_widths=(4,),
)  # fmt: skip
CLIPS = DEMO.train


def dense() -> BasicVSR:
    torch.manual_seed(0)
    return BasicVSR(ARGUMENTS)


def plan(rule: str) -> PrunePlan:
    layout = dense().channel_layout(rule)
    return PrunePlan.cutting(rule, layout, {group.name: [1] for group in layout.groups})


def sparsify() -> TrainingStage:
    rates, growth = Rates(1e-3, 1e-2), Growth(1e-2, 1, 1.0)
    return Sparsify(dense(), TARGETS["gates"](dense(), plan("rsc")), steps=STEPS, rates=rates, growth=growth)


def finetune(train_flow: bool) -> TrainingStage:
    student, teacher = compact(dense(), plan("rsc")), Teacher(dense(), 1.0, 0.5)
    return Finetune(student, teacher, train_flow=train_flow, steps=STEPS, lr=1e-3, shape="cosine")


def scratch() -> TrainingStage:
    narrow, teacher = dense().with_plan(plan("aligned")), Teacher(dense(), 1.0, 0.5)
    return Scratch(narrow, teacher, steps=STEPS, lr=1e-3, shape="cosine", trained_flow=None)


MODULES: dict[str, Callable[[], TrainingStage]] = {
    "finetune, taught": lambda: finetune(train_flow=False),
    "finetune, taught, with its flow net": lambda: finetune(train_flow=True),
    "finetune, from scratch, through adaptors": scratch,
    "pretrain": lambda: Pretrain(dense(), STEPS, 1e-3, "onecycle"),
    "pretrain, with a flow net from a file": lambda: Pretrain(dense(), STEPS, 1e-3, "onecycle", TrainedFlow(2, 0.5)),
    "sparsify": sparsify,
    "flow": lambda: FlowTraining(dense(), STEPS, 1e-3, "cosine"),
}
QUICK, *SLOW = MODULES


def train(module: TrainingStage, workdir: Path, count: int, precision: str) -> list[dict[str, float]]:
    """The numbers of every row."""
    hardware = Hardware(count=count, arithmetic=Arithmetic(precision))
    session = Session(workdir, log_every=1, checkpoint_every=2, hardware=hardware)
    rows = fit(module, CLIPS, Sampling(batch=2, patch=8, frames=3, seed=0), session)
    return [{name: value for name, value in row.items() if name != "stage"} for row in rows]


def check_two_as_one(name: str, folder: Path, precision: str, tolerance: float) -> None:
    """Weights and rows of two processes are those of one, within `tolerance`; the second of both took part."""
    module = MODULES[name]()
    before = copy.deepcopy(module.state_dict())
    two = copy.deepcopy(module)
    one_rows = train(module, folder / "one", 1, precision)
    two_rows = train(two, folder / "two", 2, precision)
    after = module.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    trained = [key for key in before if name != "flow" or ".flow_net." in key]  # that stage trains nothing else
    assert len(moved) > len(trained) / 3
    for key, value in two.state_dict().items():
        torch.testing.assert_close(value, after[key], rtol=tolerance, atol=tolerance / 10)
        assert key in moved or torch.equal(value, before[key])
    assert [row["step"] for row in two_rows] == list(range(STEPS))
    for row, expected in zip(two_rows, one_rows, strict=True):
        assert row == pytest.approx(expected, rel=tolerance, abs=tolerance / 10)


@pytest.mark.usefixtures("quick_ranks")
def test_a_taught_network_is_trained_by_two_processes_as_by_one(tmp_path: Path) -> None:
    check_two_as_one(QUICK, tmp_path, "32-true", 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_stage_is_trained_by_two_processes_as_by_one(name: str, tmp_path: Path) -> None:
    check_two_as_one(name, tmp_path, "32-true", 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_two_processes_train_in_sixteen_bits(precision: str, tmp_path: Path) -> None:
    """A gradient that is the mean of two halves is rounded otherwise than that of a whole batch."""
    check_two_as_one(QUICK, tmp_path, precision, 5e-2)


def test_every_stage_that_trains_on_several_devices_is_among_these() -> None:
    trains = {name for name, recipe in RECIPES.items() if recipe.steps}
    assert {name.split(",")[0] for name in MODULES} == trains - {"align"}
