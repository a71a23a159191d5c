"""Training where some clips or all have no truth: whose batches, which losses, whose keys, and the same end."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from clips_made import DEMO
from torch import Tensor

from vsrprune.channels.plan import PrunePlan
from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.data.clips import Clip, input_clip
from vsrprune.data.sampling import Batch, BesideUnlabelled, PatchDataset, StepSampler, patch_loader
from vsrprune.errors import PreemptedError
from vsrprune.methods.table import METHODS
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.pruning.losses import charbonnier, temporal_loss
from vsrprune.pruning.penalty import TARGETS, Growth
from vsrprune.pruning.surgery import compact
from vsrprune.stages.align.module import Align
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.graph import plan_stages
from vsrprune.stages.recipe import UNLABELLED, Facts
from vsrprune.stages.sparsify.module import Sparsify
from vsrprune.stages.training.fit import UNLABELLED_SEEDS, Sampling, Session, fit
from vsrprune.stages.training.module import Rates, TrainingStage
from vsrprune.stages.training.teacher import Teacher

ARGUMENTS = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, flow_levels=2, flow_kernel=3, flow_widths=(4,)
)
RATES, STEPS = Rates(1e-3, 1e-2), 4


@pytest.fixture
def dense() -> BasicVSR:
    torch.manual_seed(0)
    return BasicVSR(ARGUMENTS)


def plan_of(dense: BasicVSR, rule: str = "rsc") -> PrunePlan:
    layout = dense.channel_layout(rule)
    return PrunePlan.cutting(rule, layout, {group.name: range(group.size // 2) for group in layout.groups})


def stages(dense: BasicVSR, weight: float) -> dict[str, TrainingStage]:
    """Every stage that learns from the dense network where there is no truth."""
    layout, plan = dense.channel_layout("aligned"), plan_of(dense, "aligned")
    teacher = Teacher(copy.deepcopy(dense), 0.0, 0.0, weight)
    growth = Growth(0.1, 1, 0.2)
    align = Align(copy.deepcopy(dense), layout, plan.kept_counts, steps=STEPS, rates=RATES, weight=1.0)
    align.teacher = teacher
    network = copy.deepcopy(dense)
    for gate in network.gate_parameters():
        gate.data.mul_(0.9)  # a student that is not its teacher
    return {
        "align": align,
        "sparsify": Sparsify(
            network, TARGETS["gates"](network, plan), steps=STEPS, rates=RATES, growth=growth, teacher=teacher
        ),
        "finetune": Finetune(
            compact(copy.deepcopy(dense), plan), teacher, train_flow=False, steps=STEPS, lr=1e-3, shape="constant"
        ),
    }


def batch(labelled: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    return Batch(
        torch.rand(3, 3, 3, 8, 8, generator=generator), torch.rand(labelled, 3, 3, 32, 32, generator=generator)
    )


@pytest.mark.parametrize("stage", ["align", "sparsify", "finetune"])
@pytest.mark.parametrize("labelled", [0, 1, 3])
def test_each_clip_has_the_loss_to_its_truth_or_to_the_dense_network(
    labelled: int, stage: str, dense: BasicVSR
) -> None:
    module, drawn = stages(dense, weight=0.7)[stage], batch(labelled)
    losses = module.losses(drawn)
    with torch.no_grad():
        own, target = (network(drawn.low_NTCHW).frames_NTCHW for network in (module.network, dense))
    expected: dict[str, Tensor] = {}
    if labelled:
        expected["reconstruction"] = charbonnier(own[:labelled], drawn.high_NTCHW)
    if labelled < 3:
        expected["unlabelled"] = 0.7 * charbonnier(own[labelled:], target[labelled:])
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {name: loss.item() for name, loss in expected.items()}, rel=1e-5
    )


def test_hidden_states_and_outputs_are_followed_on_all_clips(dense: BasicVSR) -> None:
    student, drawn = compact(copy.deepcopy(dense), plan_of(dense)), batch(1)
    taught = Teacher(copy.deepcopy(dense), 2.0, 0.5, 0.7)
    module = Finetune(student, taught, train_flow=False, steps=STEPS, lr=1e-3, shape="constant")
    losses, output, target = module.losses(drawn), student(drawn.low_NTCHW), dense(drawn.low_NTCHW)
    assert set(losses) == {"reconstruction", "unlabelled", "temporal", "output"}
    kept = dict.fromkeys(target.hidden, None)
    assert losses["temporal"].item() == pytest.approx(2 * temporal_loss(output.hidden, target.hidden, kept).item())
    assert losses["output"].item() == pytest.approx(0.5 * charbonnier(output.frames_NTCHW, target.frames_NTCHW).item())


def untrue(clips: Any) -> list[Clip]:
    return [input_clip(clip.name, clip.low_TCHW) for clip in clips]


def test_a_batch_holds_as_many_clips_without_truth_behind_the_others() -> None:
    labelled = PatchDataset(DEMO.train, 3, 8, 4, seed=5)
    unlabelled = PatchDataset(untrue(DEMO.val), 3, 8, 4, seed=UNLABELLED_SEEDS + 5)
    both = BesideUnlabelled(labelled, unlabelled)
    for rank in range(2):
        (first, second) = patch_loader(both, StepSampler(2, 4, rank, 2), workers=0)
        assert first.low_NTCHW.shape == (4, 3, 3, 8, 8)
        assert first.high_NTCHW.shape == (2, 3, 3, 32, 32)
        for at, index in enumerate((4 + 2 * rank, 5 + 2 * rank)):
            assert torch.equal(second.low_NTCHW[at], labelled[index].low_NTCHW)
            assert torch.equal(second.high_NTCHW[at], labelled[index].high_NTCHW)
            assert torch.equal(second.low_NTCHW[2 + at], unlabelled[index].low_NTCHW)


@pytest.mark.parametrize("mirror", [False, True])
def test_a_batch_without_any_truth_has_no_clips_of_it(mirror: bool) -> None:
    (drawn,) = patch_loader(PatchDataset(untrue(DEMO.train), 3, 8, 4, 0, mirror), StepSampler(1, 2), workers=0)
    assert drawn.low_NTCHW.shape == (2, 6 if mirror else 3, 3, 8, 8)
    assert drawn.high_NTCHW.numel() == 0
    assert len(drawn.floats().high_NTCHW) == 0


def train(workdir: Path, labelled: bool, stop_at: int = -1) -> Any:
    """Rows and weights of a fine-tuning that is asked to stop after a step."""

    def ask(row: dict[str, Any]) -> None:
        if row["step"] == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    torch.manual_seed(0)
    module = stages(BasicVSR(ARGUMENTS), 1.0)["finetune"]
    session = Session(workdir, 1, checkpoint_every=2, on_row=ask)
    clips, others = (DEMO.train, untrue(DEMO.val)) if labelled else (untrue(DEMO.train), [])
    rows = fit(module, clips, Sampling(batch=2, patch=8, frames=3, seed=0), session, others)
    return rows, {name: value.clone() for name, value in module.network.state_dict().items()}


@pytest.mark.parametrize("labelled", [False, True])
def test_a_training_that_was_stopped_goes_on_to_the_same_end(tmp_path: Path, labelled: bool) -> None:
    rows, weights = train(tmp_path / "whole", labelled)
    with pytest.raises(PreemptedError):
        train(tmp_path / "broken", labelled, stop_at=1)
    again, ended = train(tmp_path / "broken", labelled)
    assert again == rows
    assert all(torch.equal(value, weights[name]) for name, value in ended.items())
    assert {"loss_unlabelled"} <= set(rows[0])
    assert ("loss_reconstruction" in rows[0]) == labelled


def planned(facts: Facts, **changes: Any) -> dict[str, Any]:
    config = with_knobs(Config(), {name.replace("__", "."): value for name, value in changes.items()})
    return {stage.name: stage for stage in plan_stages(config, facts)}


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.start == "cut"])
def test_what_clips_without_truth_decide_is_in_no_key_where_all_have_one(name: str) -> None:
    facts = Facts(model={}, train="train clips", val="held-out clips")
    for stage in planned(facts, method__name=name, data__unlabelled_weight=0.5).values():
        assert not set(UNLABELLED) & set(stage.settings)
        assert "dense" not in stage.parents or stage.stage in ("reference", "evaluate", "align")


def test_the_dense_network_is_read_by_what_trains_and_compares_without_a_truth() -> None:
    facts = Facts(model={}, train="footage", val="held-out footage", pretrained="file")
    found = planned(facts, data__truth="none", tf_weight=0.0, method__align=True)
    assert {name for name, stage in found.items() if "teacher" in stage.parents} == {"sparsify", "finetune"}
    assert {name for name, stage in found.items() if "dense" in stage.parents} >= {"align", "prune", "evaluate"}
    half = planned(facts, data__truth="none", evaluate__precision="bf16")
    assert half["measure"].parents.get("dense") == "pretrain"


def test_the_clips_without_truth_and_their_weight_are_in_the_keys_of_what_learns_from_them() -> None:
    def keys(unlabelled: str, weight: float) -> dict[str, str]:
        facts = Facts(model={}, train="train clips", val="held-out clips", unlabelled=unlabelled)
        changes = {"data__truth": "some", "data__unlabelled_weight": weight, "method__align": True}
        return {name: stage.key for name, stage in planned(facts, **changes).items()}

    first = keys("footage", 1.0)
    for other in (keys("other footage", 1.0), keys("footage", 0.5)):
        same = {name for name, key in other.items() if key == first[name]}
        assert {"flow", "pretrain", "reference"} <= same
        assert not same & {"align", "sparsify", "finetune", "evaluate"}
