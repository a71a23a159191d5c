"""What the steps of the stages cost beside a plain training step, and what checkpointed frames save.

    python benchmarks/training.py [--model basicvsr_tiny] [--patch 24] [--frames 5] [--batch 4] [--rounds 15]

All steps take turns on the same batch; the fastest of the rounds counts. A step is forward, backward and Adam. Plain:
the loss of reconstruction alone, flow net frozen. The pruned network keeps half of the units.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from vsrprune.cli import CONF, preset
from vsrprune.data.sampling import Batch
from vsrprune.host.machine import measuring
from vsrprune.metrics.latency import milliseconds
from vsrprune.metrics.memory import peak_memory
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import RGB, BasicVSRArguments
from vsrprune.networks.network import Network
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.penalty import CutGates
from vsrprune.pruning.scores.table import score_units
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.teacher import Teacher

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
    given = parser.parse_args()
    arguments = preset(given.model).arguments
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    low = torch.rand(given.batch, given.frames, RGB, given.patch, given.patch, device=device)
    side = given.patch * arguments.scale
    batch = Batch(low, torch.rand(given.batch, given.frames, RGB, side, side, device=device))
    calls = steps(arguments, batch)
    with measuring():
        times: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(given.rounds + 1):  # the first warms up
            for name, call in calls.items():
                ms = milliseconds(call, device)
                times[name] += [ms] if turn > 0 else []
        peaks = {name: peak_memory(call, device) for name, call in calls.items()}
        memory = {name: None if peak is None else peak.held for name, peak in peaks.items()}
    print_table({name: min(values) for name, values in times.items()}, memory)


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


def _step(network: Network, loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
    optimizer = torch.optim.Adam([parameter for parameter in network.parameters() if parameter.requires_grad], lr=LR)

    def run() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return run


def print_table(ms: dict[str, float], memory: dict[str, int | None]) -> None:
    """Times, and their quotients with the bars of the project."""
    against = {
        "plain, checkpointed frames": (ms["plain"], "plain", None),
        "sparsify": (ms["plain"], "plain", 1.05),
        "finetune, temporal": (ms["finetune"] + ms["teacher"], "finetune + teacher", 1.10),
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("step", "ms", "MiB", "quotient", "of", "bar"):
        table.add_column(heading, justify="left" if heading in ("step", "of") else "right")
    for name, value in ms.items():
        base, words, bar = against.get(name, (0.0, "", None))
        quotient = f"{value / base:.3f}" if base else ""
        verdict = "" if bar is None else f"{bar:.2f} {'met' if value / base <= bar else 'MISSED'}"
        peak = memory[name]
        table.add_row(name, f"{value:.1f}", f"{peak / 2**20:.0f}" if peak is not None else "", quotient, words, verdict)
    console = Console()
    console.print(table)
    console.print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}", style="dim", highlight=False)


if __name__ == "__main__":
    main()
