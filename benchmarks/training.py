"""What the steps of the stages cost beside a plain training step, and what checkpointed frames save.

    python benchmarks/training.py [--model basicvsr_tiny] [--patch 24] [--frames 5] [--batch 4] [--rounds 15]
        [--only pretrain sparsify ...] [--json FILE]

All steps take turns on the same batch; the fastest of the rounds counts. A step is forward, backward and Adam. Plain:
the loss of reconstruction alone, flow net frozen. The pruned network keeps half of the units.

On a card, steps of three stages follow in 32-true and bf16-mixed: as usual, and replayed from CUDA graphs
(trainer.graphs), with the share of the time in which the card computes. They run one after the other, since every
graph keeps the memory of its step.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from vsrprune.cli import preset
from vsrprune.commands import CONF
from vsrprune.data.sampling import Batch
from vsrprune.host.machine import measuring
from vsrprune.metrics.latency import milliseconds
from vsrprune.metrics.memory import peak_memory
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import RGB, BasicVSRArguments
from vsrprune.networks.network import Network
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.penalty import CutGates, Growth
from vsrprune.pruning.scores.table import score_units
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.pretrain.module import Pretrain
from vsrprune.stages.sparsify.module import Sparsify
from vsrprune.stages.training.graphs import BatchTerms, captured, release
from vsrprune.stages.training.module import Rates, TrainingStage
from vsrprune.stages.training.teacher import Teacher

LR, PENALTY = 1e-4, 0.05
SETTINGS = {"train_flow": False, "steps": 10, "lr": LR, "shape": "constant"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model",
        default="basicvsr_tiny",
        choices=sorted(path.stem for path in (CONF / "model").glob("basicvsr*.yaml")),
    )
    for name, default in (("patch", 24), ("frames", 5), ("batch", 4), ("rounds", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="+", help="names of rows, without what follows a comma; all if none are given")
    parser.add_argument("--json", type=Path, help="write the milliseconds, MiB and busy shares here too")
    given = parser.parse_args()
    arguments = preset(given.model).arguments
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    low = torch.rand(given.batch, given.frames, RGB, given.patch, given.patch, device=device)
    side = given.patch * arguments.scale
    batch = Batch(low, torch.rand(given.batch, given.frames, RGB, side, side, device=device))
    calls = {name: call for name, call in steps(arguments, batch).items() if is_wanted(name, given.only)}
    with measuring():
        times: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(given.rounds + 1):  # the first warms up
            for name, call in calls.items():
                ms = milliseconds(call, device)
                times[name] += [ms] if turn > 0 else []
        peaks = {name: peak_memory(call, device) for name, call in calls.items()}
        memory = {name: None if peak is None else peak.held for name, peak in peaks.items()}
        fastest = {name: min(values) for name, values in times.items()}
        busy: dict[str, float] = {}
        if device.type == "cuda":
            calls.clear()
            more, busy = replayed(arguments, batch, given.rounds, given.only)
            fastest |= more
    print_table(fastest, memory, busy)
    if given.json:
        rows = {name: {"ms": ms, "bytes": memory.get(name), "busy": busy.get(name)} for name, ms in fastest.items()}
        given.json.write_text(json.dumps(rows))


def steps(arguments: BasicVSRArguments, batch: Batch) -> dict[str, Callable[[], object]]:
    """A training step of each kind, and the teacher's forward pass."""
    torch.manual_seed(0)
    dense = BasicVSR(arguments).to(batch.low_NTCHW.device)
    layout = dense.channel_layout("rsc")
    plan = select(layout, score_units(dense, layout, "random", 0), Asked(rule="rsc", ratio=0.5))
    pruned, cut = compact(dense, plan), CutGates(dense, plan).to(batch.low_NTCHW.device)
    gated = copy.deepcopy(dense)
    gated.flow_net.requires_grad_(False)
    remembered = copy.deepcopy(gated)
    remembered.checkpoint_frames = True
    alone = Finetune(copy.deepcopy(pruned), None, **SETTINGS)  # type: ignore[arg-type]
    taught = Finetune(copy.deepcopy(pruned), Teacher(copy.deepcopy(dense), 1.0, 0.0), **SETTINGS)  # type: ignore[arg-type]

    def reconstruction(network: BasicVSR) -> torch.Tensor:
        return charbonnier(network(batch.low_NTCHW).frames_NTCHW, batch.high_NTCHW)

    def penalised() -> torch.Tensor:
        return reconstruction(gated) + cut.penalty(gated, PENALTY)

    @torch.no_grad()
    def teach() -> None:
        dense.hidden_states(batch.low_NTCHW, flows)

    with torch.no_grad():
        flows = dense.flows(batch.low_NTCHW)
    return {
        "plain": _step(gated, lambda: reconstruction(gated)),
        "plain, checkpointed frames": _step(remembered, lambda: reconstruction(remembered)),
        "sparsify": _step(gated, penalised),
        "finetune": _step(alone.network, lambda: torch.stack(list(alone.losses(batch).values())).sum()),
        "finetune, temporal": _step(taught.network, lambda: torch.stack(list(taught.losses(batch).values())).sum()),
        "teacher": teach,
    }


def is_wanted(row: str, only: Sequence[str] | None) -> bool:
    """Whether a row is asked for."""
    return not only or row.split(",")[0] in only


def replayed(
    arguments: BasicVSRArguments, batch: Batch, rounds: int, only: Sequence[str] | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of a step of three stages in two precisions, as usual and replayed from CUDA graphs.

    Also the share of them in which the card computes.
    """
    device, times, busy = batch.low_NTCHW.device, dict[str, float](), dict[str, float]()
    for precision in ("32-true", "bf16-mixed"):
        bf16 = partial(torch.autocast, device.type, torch.bfloat16, cache_enabled=False)
        stages = {name: stage for name, stage in _stages(arguments, device).items() if is_wanted(name, only)}
        for name, stage in stages.items():
            context = bf16 if precision == "bf16-mixed" else contextlib.nullcontext
            # Two, since PyTorch replaces the forward pass of the one that it captures; and copies of the batch, which
            # become the memory that every batch is copied into.
            usual, terms = (BatchTerms(stage, stage.losses, context) for _ in range(2))
            calls = {f"{name}, {precision}": _staged(stage, usual, batch)}
            found = captured(terms, Batch(*(part.clone() for part in batch)))
            if found is not None:
                calls[f"{name}, {precision}, graphed"] = _staged(stage, found.replay, batch)
            for turn in range(rounds + 1):
                for row, call in calls.items():
                    ms = milliseconds(call, device)
                    times[row] = min(ms, times[row]) if turn > 1 else ms  # the first warms up
            # Of the last call alone: to read a profile of fifty thousand launches takes longer than all steps, and a
            # replay runs the same kernels.
            computing = busy_ms(list(calls.values())[-1])
            busy |= {row: computing / times[row] for row in calls}
            print({row: f"{times[row]:.1f} ms, card busy {busy[row]:.0%}" for row in calls}, flush=True)
            del calls, found, terms, usual
            stage.zero_grad()
            release()
    return times, busy


def busy_ms(call: Callable[[], object]) -> float:
    """Milliseconds that a CUDA device computes in a call."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    on_card = [event for event in seen.events() or () if str(event.device_type).endswith("CUDA")]
    return float(sum(event.time_range.elapsed_us() for event in on_card)) / 1000


def _stages(arguments: BasicVSRArguments, device: torch.device) -> dict[str, TrainingStage]:
    torch.manual_seed(0)
    dense = BasicVSR(arguments)
    layout = dense.channel_layout("rsc")
    plan = select(layout, score_units(dense, layout, "random", 0), Asked(rule="rsc", ratio=0.5))
    teacher = Teacher(copy.deepcopy(dense), 1.0, 0.0)
    rates, growth = Rates(LR, LR), Growth(PENALTY, 1, PENALTY)
    stages: dict[str, TrainingStage] = {
        "pretrain": Pretrain(copy.deepcopy(dense), 10, LR, "constant"),
        "sparsify": Sparsify(copy.deepcopy(dense), CutGates(dense, plan), steps=10, rates=rates, growth=growth),
        "finetune, temporal": Finetune(compact(dense, plan), teacher, **SETTINGS),  # type: ignore[arg-type]
    }
    teacher.to(device, torch.channels_last)
    for stage in stages.values():
        stage.to(device).network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return stages


def _staged(stage: TrainingStage, terms: Callable[[Tensor, Tensor], Tensor], batch: Batch) -> Callable[[], object]:
    optimizer = torch.optim.Adam(stage.parameter_groups(), lr=LR, fused=stage.device.type == "cuda")

    def run() -> None:
        penalties = list(stage.penalties().values())
        loss = torch.stack([*terms(*batch).unbind(), *penalties]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def _step(network: Network, loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
    optimizer = torch.optim.Adam([parameter for parameter in network.parameters() if parameter.requires_grad], lr=LR)

    def run() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return run


def print_table(ms: dict[str, float], memory: dict[str, int | None], busy: dict[str, float]) -> None:
    """Times, and their quotients with the bars of the project."""
    against = {
        "plain, checkpointed frames": (("plain",), None),
        "sparsify": (("plain",), 1.05),
        "finetune, temporal": (("finetune", "teacher"), 1.10),
        **{f"{name}, graphed": ((name,), None) for name in ms},
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("step", "ms", "MiB", "card busy", "quotient", "of", "bar"):
        table.add_column(heading, justify="left" if heading in ("step", "of") else "right")
    for name, value in ms.items():
        parts, bar = against.get(name, ((), None))
        known = bool(parts) and all(part in ms for part in parts)
        base, words = (sum(ms[part] for part in parts), " + ".join(parts)) if known else (0.0, "")
        quotient = f"{value / base:.3f}" if base else ""
        verdict = "" if bar is None or not known else f"{bar:.2f} {'met' if value / base <= bar else 'MISSED'}"
        peak = memory.get(name)
        computing = f"{busy[name]:.0%}" if name in busy else ""
        mib = f"{peak / 2**20:.0f}" if peak is not None else ""
        table.add_row(name, f"{value:.1f}", mib, computing, quotient, words, verdict)
    console = Console()
    console.print(table)
    console.print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}", style="dim", highlight=False)


if __name__ == "__main__":
    main()
