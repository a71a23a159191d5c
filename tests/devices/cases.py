"""Everything that runs on a device, on the pretended one: python cases.py NETWORK:RULE... prints a JSON line per case.

A case is right if no operation mixes devices. A training step is taken twice: the second is counted.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pretended import COPIES, COUNTED, DEVICE, READS, Pretend  # before the platform is imported  # isort: skip

import copy

import numpy as np
import torch

from vsrprune.channels.plan import PrunePlan
from vsrprune.cli import preset
from vsrprune.data.clips import Clip
from vsrprune.data.sampling import Batch
from vsrprune.metrics.cost import network_cost
from vsrprune.metrics.latency import compare_latency
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.network import Network
from vsrprune.networks.table import build
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.masking import mask_smallest
from vsrprune.pruning.penalty import TARGETS, Growth
from vsrprune.pruning.reparametrisation import hold_zeros, normalise_filters
from vsrprune.pruning.scores.table import SCORES, score_units
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.stages.align.module import Align
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.scratch import Scratch
from vsrprune.stages.pretrain.module import Pretrain
from vsrprune.stages.quality import restored
from vsrprune.stages.sparsify.module import Sparsify
from vsrprune.stages.training.module import Rates, TrainingStage
from vsrprune.stages.training.teacher import Teacher
from vsrprune.use.streaming import Pieces, upscaled_frames

RUN: dict[str, Any] = {"steps": 3, "lr": 1e-3, "shape": "constant"}
RATES = Rates(1e-3, 1e-2)
SIDES = (16, 24)
BLOCKS = ("blocks", "extract_blocks", "reconstruction_blocks")  # the next does what the first does

Case = Callable[[], Any]


class Waits(dict[str, int]):
    """How often a step makes a card wait."""


@dataclass
class Subject:
    """A network under a rule: on the CPU, what is kept of it, and a batch on the device."""

    dense: Network
    plan: PrunePlan
    batch: Batch

    @classmethod
    def of(cls, name: str, rule: str) -> Subject:
        """The preset's network with a block where it has several, half of whose units are cut."""
        torch.manual_seed(0)
        arguments = preset(name).arguments
        arguments = replace(arguments, **{field: 1 for field in BLOCKS if hasattr(arguments, field)})
        dense = build(arguments).to(memory_format=torch.channels_last)
        layout = dense.channel_layout(rule)
        plan = select(layout, score_units(dense, layout, "random", 0), Asked(rule=rule, ratio=0.5))
        height, width = (side * arguments.scale for side in SIDES)
        batch = Batch(torch.rand(2, 3, 3, *SIDES).to(DEVICE), torch.rand(2, 3, 3, height, width).to(DEVICE))
        return cls(dense, plan, batch)

    @property
    def layout(self) -> Any:
        """The channels under the plan's rule."""
        return self.dense.channel_layout(self.plan.rule)

    def new(self) -> Network:
        """A copy of the dense network, on the CPU."""
        return copy.deepcopy(self.dense)

    def small(self) -> Network:
        """The compact network, on the CPU."""
        return compact(self.dense, self.plan)


def stages(of: Subject) -> Iterator[tuple[str, Callable[[], TrainingStage]]]:
    """Every training stage, in every form that a method gives it."""
    yield "pretrain", lambda: Pretrain(of.new(), **RUN)
    yield "pretrain, checkpointed frames", lambda: _checkpointed(Pretrain(of.new(), **RUN))
    for target in TARGETS:
        for normalised in (False, True):
            yield f"sparsify {target}{', unit norms' * normalised}", lambda t=target, n=normalised: _sparsify(of, t, n)
    yield "sparsify, taught", lambda: _sparsify(of, "gates", False, _teacher(of))
    if of.plan.rule == "aligned":
        yield "align", lambda: _align(of)
    yield "finetune", lambda: Finetune(of.small(), None, train_flow=False, **RUN)
    yield "finetune, masked", lambda: Finetune(_masked(of), None, train_flow=False, **RUN)
    yield "finetune, taught", lambda: Finetune(of.small(), _teacher(of), train_flow=False, **RUN)
    yield "finetune, taught, truncated", lambda: _truncated(Finetune(of.small(), _teacher(of), train_flow=False, **RUN))
    yield "lite", lambda: Scratch(of.small(), None, trained_flow=None, **RUN)
    yield "distill", lambda: Scratch(of.small(), _teacher(of), trained_flow=None, **RUN)


def _teacher(of: Subject) -> Teacher:
    return Teacher(of.new(), float(bool(of.dense.arguments.branches)), 1.0)  # without states nothing is temporal


def _checkpointed(stage: TrainingStage) -> TrainingStage:
    stage.network.checkpoint_frames = True
    return stage


def _truncated(stage: TrainingStage) -> TrainingStage:
    stage.network.gradient_frames = 2
    return stage


def _sparsify(of: Subject, target: str, normalised: bool, teacher: Teacher | None = None) -> TrainingStage:
    network = of.new()
    if normalised:
        normalise_filters(network, of.layout)
    cut = TARGETS[target](network, of.plan)
    return Sparsify(network, cut, steps=3, rates=RATES, growth=Growth(0.1, 1, 1.0), teacher=teacher)


def _align(of: Subject) -> TrainingStage:
    network, layout = of.new(), of.layout
    normalise_filters(network, layout)
    scores = {group.name: np.zeros(group.size) for group in layout.groups}
    kept = select(layout, scores, Asked(rule=of.plan.rule, ratio=0.5)).kept_counts
    return Align(network, layout, kept, steps=3, rates=RATES, weight=1.0)


def _masked(of: Subject) -> Network:
    network = compact(of.dense, PrunePlan.keep_all(of.plan.rule, of.layout))
    mask_smallest(network, of.layout, 0.5, "macs")
    hold_zeros(network, of.layout)
    return network


def steps(of: Subject, make: Callable[[], TrainingStage]) -> Waits:
    """What the second step of a stage copies and reads; how often what it logs is read."""
    stage = make().to(DEVICE)
    stage.on_fit_start()
    optimizer = torch.optim.Adam(stage.parameter_groups(), lr=1e-3)
    for _ in range(2):
        COUNTED.clear()
        optimizer.zero_grad()
        torch.stack([*stage.penalties().values(), *stage.losses(of.batch).values()]).sum().backward()
        optimizer.step()
    counted = {COPIES: COUNTED[COPIES], READS: COUNTED[READS]}
    COUNTED.clear()
    stage.monitors()
    return Waits({**counted, "copies of monitors": COUNTED[COPIES], "reads of monitors": COUNTED[READS]})


def others(of: Subject) -> Iterator[tuple[str, Case]]:
    """What is done with a network beside training it."""
    dense, small = of.new().to(DEVICE), of.small().to(DEVICE).eval()
    scale, rule = dense.arguments.scale, of.plan.rule
    scored = [score for score in SCORES if score != "gate"]  # refuses untrained gates
    yield "scores", lambda: [score_units(dense, of.layout, score, 0, [of.batch]) for score in scored]
    yield "surgery", lambda: compact(dense, of.plan)
    yield "gates at zero", lambda: zero_cut_gates(of.new().to(DEVICE), of.plan)
    yield "values equal the CPU's", lambda: _equal(of, small)
    truth, low = ((torch.rand(4, 3, *SIDES).repeat(1, 1, s, s) * 255).byte() for s in (scale, 1))
    clip = Clip("c", truth, low)
    for mirrored in (False, True):
        yield f"evaluate{', mirrored' * mirrored}", lambda m=mirrored: restored(small, clip, DEVICE, mirrored=m)
    yield "cost", lambda: network_cost(small, (36, 64))
    frames = torch.rand(1, 2, 3, *SIDES).to(DEVICE)
    frozen = freeze(small, frames, _timer)[0]
    with torch.no_grad():
        yield "frozen", lambda: frozen(frames).cpu()
        yield "latency", lambda: compare_latency({"": frozen}, frames, 1)
        inputs = [torch.rand(1, 3, *SIDES).to(DEVICE) for _ in range(4)]
        for tile in (0, 16):
            pieces = Pieces(3, 1, tile, 4)
            yield f"stream, tile {tile}", lambda p=pieces: [x.cpu() for x in upscaled_frames(frozen, inputs, p)]
    yield "save and load", lambda: _saved(small, rule)


def _timer(call: Callable[[], object]) -> float:
    call()
    return 1.0


def _equal(of: Subject, small: Network) -> None:
    low = of.batch.low_NTCHW.cpu()
    with torch.no_grad():
        found, expected = small(low.to(DEVICE)).frames_NTCHW.cpu(), of.small().eval()(low).frames_NTCHW
    assert torch.equal(found, expected), f"they differ by {float((found - expected).abs().max())}"


def _saved(network: Network, rule: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_network(network, Path(folder))
        assert load_network(Path(folder)).plan is not None, rule


def planted() -> Iterator[tuple[str, Case]]:
    """Mistakes that must be found: tensors of two devices, an index from a list, a value that is read."""
    there = torch.rand(4, 5).to(DEVICE)
    yield "mixed", lambda: there + torch.rand(4, 5)
    yield "mixed index_select", lambda: there.index_select(0, torch.tensor([1, 2]))
    yield "index from a list", lambda: there[:, [0, 2]]
    yield "index on the CPU", lambda: there[torch.tensor([0, 2])]
    yield "tensor from a list", lambda: torch.tensor([1, 2], device=DEVICE)
    yield "read", lambda: float(there.mean())
    yield "moved back", lambda: there.cpu()
    yield "mask", lambda: there[there > 0.5]
    yield "nothing wrong", lambda: there.index_select(0, torch.arange(2, device=DEVICE)) * 2


def report(network: str, rule: str, case: str, call: Case) -> None:
    """Run a case, and print what became of it."""
    COUNTED.clear()
    line: dict[str, Any] = {"network": network, "rule": rule, "case": case, "error": ""}
    try:
        result = call()
        line |= result if isinstance(result, Waits) else {COPIES: COUNTED[COPIES], READS: COUNTED[READS]}
    except Exception as error:
        places = [f"{item.filename}:{item.lineno}" for item in traceback.extract_tb(error.__traceback__)]
        ours = [place for place in places if "vsrprune/" in place]
        line["error"] = f"{str(error).splitlines()[0][:200]} at {ours[-1:]}"
    print(json.dumps(line), flush=True)


def main() -> None:
    """The planted mistakes, and the cases of networks under a rule each: `planted`, `network:rule`."""
    with Pretend():
        for asked in sys.argv[1:]:
            if asked == "planted":
                for case, call in planted():
                    report("", "", case, call)
                continue
            name, rule = asked.split(":")
            subject = Subject.of(name, rule)
            for case, make in stages(subject):
                report(name, rule, case, partial(steps, subject, make))
            for case, call in others(subject):
                report(name, rule, case, call)
    sys.stdout.flush()
    os._exit(0)  # autograd's thread of the pretended device does not outlive a plain exit


if __name__ == "__main__":
    main()
