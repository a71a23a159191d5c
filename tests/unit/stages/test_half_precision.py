"""Training in 16 bits: every gradient is finite, and what never trains says so."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from vsrprune.cli import composed_config, register
from vsrprune.config.job import Config
from vsrprune.data.sampling import Batch
from vsrprune.networks.table import build
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.teacher import Teacher

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
    taught = Teacher(teacher, tf_weight=1.0 if arguments.branches else 0.0, output_weight=0.5)
    module = Finetune(student, taught, train_flow=True, steps=1, lr=1e-3, shape="constant")
    with torch.autocast("cpu", torch.float16):
        losses = module.losses(batch)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    # As GradScaler multiplies at the start; a gradient that is not finite then makes it drop the step.
    (65536 * torch.stack(list(losses.values())).sum()).backward()
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert len(gradients) > 20
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
