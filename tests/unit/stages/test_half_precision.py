"""Training in 16 bits: every gradient is finite, and what never trains says so."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from clips_made import DEMO
from hydra import compose, initialize_config_dir

from vsrprune.cli import composed_config, register
from vsrprune.config.job import Config
from vsrprune.data.sampling import Batch
from vsrprune.errors import PreemptedError, TrainingDivergedError
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.table import build
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.training.fit import Sampling, Session, fit
from vsrprune.stages.training.hardware import Arithmetic, Hardware
from vsrprune.stages.training.teacher import Teacher

CONF = Path(__file__).parents[3] / "conf"
TINY = sorted(path.stem for path in (CONF / "model").glob("*_tiny.yaml"))


def arguments_of_preset(name: str):
    register(Config)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return composed_config(compose("config", [f"model={name}"]), Config).model.arguments


def test_every_family_has_a_tiny_preset() -> None:
    assert len(TINY) >= 7


@pytest.mark.parametrize("change", [0.0, 1e-4], ids=["equal", "nearly equal"])
@pytest.mark.parametrize("preset", TINY)
def test_every_gradient_is_finite_in_fp16_next_to_the_teacher(preset: str, change: float) -> None:
    """Where a student nearly equals its teacher, the squares of their differences are no numbers of fp16."""
    arguments = arguments_of_preset(preset)
    torch.manual_seed(0)
    teacher = build(arguments)
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1 + change)
    scale = arguments.scale
    batch = Batch(torch.rand(1, 2, 3, 8, 8), torch.rand(1, 2, 3, 8 * scale, 8 * scale))
    taught = Teacher(teacher, tf_weight=0.01 if arguments.branches else 0.0, output_weight=0.5)
    module = Finetune(student, taught, train_flow=True, steps=1, lr=1e-3, shape="constant")
    with torch.autocast("cpu", torch.float16):
        losses = module.losses(batch)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    # As GradScaler multiplies at the start; a gradient that is not finite then makes it drop the step.
    (65536 * torch.stack(list(losses.values())).sum()).backward()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert len(gradients) > 20
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


# A training in 16 bits. On a CPU `fit` computes in fp16 with the scaler that a card has; the knobs refuse it there.

SMALL = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, bidirectional=True, upscale_factors=(2, 2), slope=0.1, flow_levels=2,
    flow_kernel=3, flow_widths=(4,),
)  # fmt: skip
CLIPS = DEMO.train


class Overflowing(Finetune):
    """Its gradients are infinite in fp16 from a step on, and its losses finite."""

    since = 0

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        losses = super().losses(batch)
        # 0 for the eye, and for every gradient its slope times the scaler's scale, which no float holds.
        weight = self.network.get_parameter("fusion.weight").sum()
        losses["steep"] = (weight - weight.detach()) * (3e38 if self.global_step >= self.since else 0.0)
        return losses


def train(
    workdir: Path,
    precision: str,
    *,
    steps: int = 6,
    kind: type[Finetune] = Finetune,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Rows and weights of a fine-tuning with all of its losses."""
    torch.manual_seed(0)
    teacher = build(SMALL)
    module = kind(
        copy.deepcopy(teacher), Teacher(teacher, 0.01, 0.5), train_flow=False, steps=steps, lr=1e-3, shape="cosine"
    )
    rows = fit(
        module,
        CLIPS,
        Sampling(batch=2, patch=8, frames=3, seed=0),
        Session(workdir, 1, checkpoint_every=2, hardware=Hardware(arithmetic=Arithmetic(precision)), on_row=on_row),
    )
    return rows, {name: value.clone() for name, value in module.network.state_dict().items()}


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_a_student_that_starts_as_its_teacher_is_trained(precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = build(SMALL).state_dict()
    rows, after = train(tmp_path, precision)
    assert len(rows) == 6
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert {name.partition(".")[0] for name in before} - {name.partition(".")[0] for name in moved} == {"flow_net"}


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_a_break_in_sixteen_bits_changes_no_bit(precision: str, tmp_path: Path) -> None:
    def ask(row: dict[str, Any]) -> None:
        if row["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    whole_rows, whole = train(tmp_path / "whole", precision)
    with pytest.raises(PreemptedError):
        train(tmp_path / "broken", precision, on_row=ask)
    broken_rows, broken = train(tmp_path / "broken", precision)
    assert broken_rows == whole_rows
    assert all(torch.equal(value, whole[name]) for name, value in broken.items())


def scaler_in(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)["MixedPrecision"]
    return state


def test_the_scale_of_gradients_goes_on_after_a_break(tmp_path: Path) -> None:
    """Two steps are dropped, then the process is stopped: the next one starts from a quarter of the first scale."""

    class Twice(Overflowing):
        def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
            self.since = 0 if self.global_step < 2 else 100
            return super().losses(batch)

    def ask(row: dict[str, Any]) -> None:
        if row["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(PreemptedError):
        train(tmp_path, "16-mixed", kind=Twice, on_row=ask)
    state = scaler_in(tmp_path / "step-4.ckpt")
    assert state["scale"] == 65536 / 4
    assert state["_growth_tracker"] == 2  # good steps since
    train(tmp_path, "16-mixed", kind=Twice)
    assert scaler_in(tmp_path / "step-4.ckpt") == state


def test_ten_dropped_steps_in_a_row_stop_a_training(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Late(Overflowing):
        since = 3

    with pytest.raises(
        TrainingDivergedError,
        match=r"finetune: trainer.precision=16-mixed trains nothing: the last 10 steps, up to step 12, .*"
        r"use trainer.precision=bf16-mixed or 32-true",
    ) as refused:
        train(tmp_path, "16-mixed", steps=40, kind=Late, on_row=seen.append)
    assert "\n" not in str(refused.value)
    assert [row["step"] for row in seen] == list(range(13))
    assert all(abs(value) < 1e3 for row in seen for name, value in row.items() if name.startswith("loss"))


def test_a_good_step_starts_the_count_anew(tmp_path: Path) -> None:
    class Now(Overflowing):
        def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
            self.since = 100 if self.global_step % 10 == 9 else 0
            return super().losses(batch)

    assert len(train(tmp_path, "16-mixed", steps=30, kind=Now)[0]) == 30


def test_where_reading_waits_ten_dropped_steps_are_seen_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("callbacks", "module"):
        monkeypatch.setattr(f"vsrprune.stages.training.{module}.steps_between_reads", lambda device: 10)

    class Late(Overflowing):
        since = 4

    with pytest.raises(TrainingDivergedError, match="the last 10 steps, up to step 19,"):
        train(tmp_path, "16-mixed", steps=40, kind=Late)
