"""Every network on the card against the CPU: outputs, surgery, frozen forms, gradients; and what determinism costs."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.card.runner import Bar, Check, Found
from vsrprune.channels.plan import PrunePlan
from vsrprune.cli import preset
from vsrprune.data.sampling import Batch
from vsrprune.metrics.latency import fastest_milliseconds
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.network import Network
from vsrprune.networks.table import build
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.scores.table import score_units
from vsrprune.pruning.surgery import compact, equivalence_error
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.training.teacher import Teacher
from vsrprune.use.streaming import Pieces, upscaled_frames

TINY = (
    "basicvsr_tiny", "basicvsr_uni_tiny", "basicvsr_pp_tiny", "edvr_tiny", "rrn_tiny", "edsr_tiny", "rcan_tiny",
)  # fmt: skip
RULES = ("rsc", "aligned", "inner")
SIZE = (32, 40)
HALF_TYPES = (torch.float16, torch.bfloat16)


def network(name: str) -> Network:
    """A network of conf/model/NAME.yaml with weights that do something: no flow of zeros, no idle branch."""
    torch.manual_seed(0)
    made = build(preset(name).arguments)
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter, a=1)
                parameter.mul_(0.1 if "blocks" in key else 0.5)
    return made


def plan_of(dense: Any, asked: Asked) -> PrunePlan:
    """A plan that keeps random units."""
    layout = dense.channel_layout(asked.rule)
    return select(layout, score_units(dense, layout, "random", 0), asked)


def devices(check: Check, found: Found) -> None:
    """Every network and rule, each guarded: a step, surgery, the frozen form and streaming, against the CPU's."""
    rows = found["networks"] = {}
    for name in TINY[: 2 if check.rehearsed else None]:
        dense = network(name)
        for rule in RULES[: 1 if check.rehearsed else None]:
            try:
                rows[f"{name} {rule}"] = _one(dense, rule, torch.device(check.device))
            except Exception as error:
                rows[f"{name} {rule}"] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    found["failed"] = [name for name, row in rows.items() if "error" in row]
    sound = [row for row in rows.values() if "error" not in row]
    limits = {"device_against_cpu_strict": 1e-5, "frozen_against_cpu": 1e-5, "compact_against_masked": 1e-12}
    bars = {name: Bar(max(row[name] for row in sound), at_most=limit) for name, limit in limits.items()}
    bars["failed"] = Bar(len(found["failed"]), at_most=0)
    bars["gradients that are not finite"] = Bar(sum(row["broken_gradients"] for row in sound), at_most=0)
    found["bars"] = {name: bar.as_json() for name, bar in bars.items()}


def _one(dense: Network, rule: str, device: torch.device) -> Found:
    scale, plan = dense.arguments.scale, plan_of(dense, Asked(rule, ratio=0.5))
    low_NTCHW, high_NTCHW = torch.rand(1, 3, 3, *SIZE), torch.rand(1, 3, 3, SIZE[0] * scale, SIZE[1] * scale)
    clip_NTCHW = low_NTCHW.to(device)
    there = copy.deepcopy(dense).to(device)
    there.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    charbonnier(there(clip_NTCHW).frames_NTCHW, high_NTCHW.to(device)).backward()
    small = compact(dense, plan).eval()
    row: Found = {}
    with torch.no_grad():
        expected_NTCHW = small(low_NTCHW).frames_NTCHW
        moved = copy.deepcopy(small).to(device)
        row["device_against_cpu_tf32"] = _apart(moved(clip_NTCHW).frames_NTCHW, expected_NTCHW)
        frozen, row["format"] = freeze(moved, clip_NTCHW, partial(fastest_milliseconds, device=device))
        torch.backends.cudnn.allow_tf32 = False
        row["device_against_cpu_strict"] = _apart(moved(clip_NTCHW).frames_NTCHW, expected_NTCHW)
        row["frozen_against_cpu"] = _apart(frozen(clip_NTCHW), expected_NTCHW)
        torch.backends.cudnn.allow_tf32 = True
        row["compact_against_masked"] = equivalence_error(
            copy.deepcopy(dense).to(device), plan, clip_NTCHW, torch.float64
        )
        row["streamed"] = len(list(upscaled_frames(frozen, list(clip_NTCHW.unbind(1)), Pieces(2, 1, 16, 4))))
    row["broken_gradients"] = sum(_broken(dense, small, clip_NTCHW, high_NTCHW.to(device), kind) for kind in HALF_TYPES)
    return row


def _apart(got: Tensor, expected: Tensor) -> float:
    return float((got.cpu() - expected).abs().max() / expected.abs().max())


def _broken(dense: Network, small: Network, low_NTCHW: Tensor, high_NTCHW: Tensor, half: torch.dtype) -> int:
    """Gradients of fine-tuning with a teacher, in 16 bits, that are not finite."""
    student = copy.deepcopy(small).to(low_NTCHW.device).train()
    teacher = None
    if dense.arguments.branches:
        teacher = Teacher(copy.deepcopy(dense), 1.0, 1.0)
        teacher.to(low_NTCHW.device, torch.channels_last)
    stage = Finetune(student, teacher, train_flow=False, steps=2, lr=1e-4, shape="constant")
    with torch.autocast(low_NTCHW.device.type, half):
        loss = torch.stack(list(stage.losses(Batch(low_NTCHW, high_NTCHW)).values())).sum()
    loss.backward()
    return sum(not bool(torch.isfinite(p.grad).all()) for p in student.parameters() if p.grad is not None)


def determinism(check: Check, found: Found) -> None:
    """Do two equal trainings end equal, and what does PyTorch refuse when it is asked for determinism?"""
    device = torch.device(check.device)
    once, twice = _trained(device), _trained(device)
    found["equal_twice"] = bool(torch.equal(once, twice))
    found["apart_after_8_steps"] = float((once - twice).abs().max())
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _trained(device, steps=1)
    torch.use_deterministic_algorithms(False)
    texts = {str(item.message).split(" does not")[0][:120] for item in caught if "determin" in str(item.message)}
    found["operations_without_a_deterministic_form"] = sorted(texts)


def _trained(device: torch.device, steps: int = 8) -> Tensor:
    made = network("basicvsr_tiny").to(device)
    made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(made.parameters(), 1e-3)
    for step in range(steps):
        draw = torch.Generator().manual_seed(step)
        low_NTCHW = torch.rand(2, 5, 3, 24, 24, generator=draw).to(device)
        high_NTCHW = torch.rand(2, 5, 3, 96, 96, generator=draw).to(device)
        optimizer.zero_grad()
        charbonnier(made(low_NTCHW).frames_NTCHW, high_NTCHW).backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten().cpu() for parameter in made.parameters()])
