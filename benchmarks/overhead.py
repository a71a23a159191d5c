"""What the platform costs beside the work itself: per training step, per job, and for a sweep that is finished.

python benchmarks/overhead.py [--rounds 5] [--steps 60]

Prints ratios from one run: bare loop and platform take turns, and the faster of all rounds counts for each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.data.demo import demo_clips
from vsrprune.data.sampling import PatchDataset, StepSampler, patch_loader
from vsrprune.host.failures import JobState
from vsrprune.host.machine import working
from vsrprune.host.tracking.table import tracked
from vsrprune.host.tracking.tracker import RunLabel
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.pruning.losses import charbonnier
from vsrprune.stages.pretrain.module import Pretrain
from vsrprune.stages.training.fit import Sampling, Session, fit

RUN = Path(__file__).parents[1] / "src" / "run.py"
STEP_MS = 20  # the step at which the overhead is judged
PATCHES = (8, 10, 12, 14, 16, 20, 24, 28, 32)
BATCH, FRAMES, LR = 2, 5, 1e-3
TINY = BasicVSRArguments(
    channels=16, blocks=3, upsampler_channels=16, bidirectional=True, upscale_factors=(2, 2), slope=0.1, flow_levels=3,
    flow_kernel=3, flow_widths=(16, 16),
)  # fmt: skip
SMALL_JOBS = [
    "schedule.pretrain.steps=4", "schedule.sparsify.growth=0.05", "schedule.sparsify.hold_steps=2",
    "schedule.finetune.steps=4", "evaluate.latency_repeats=1", "data.demo_frames=5", "data.demo_train_per_photo=1",
    "data.demo_val_per_photo=1",
]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of bare loop and platform")
    parser.add_argument("--steps", type=int, default=60, help="training steps of one turn")
    arguments = parser.parse_args()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("cost", "measured", "bar", ""):
        table.add_column(heading, justify="right" if heading in ("measured", "bar") else "left")

    def row(cost: str, measured: str, bar: str, met: bool) -> None:
        table.add_row(cost, measured, bar, "met" if met else "MISSED")

    with tempfile.TemporaryDirectory() as folder:
        patch, bare, platform = step_times(Path(folder), arguments.rounds, arguments.steps)
        overhead = platform / bare - 1
        note = f"step of {bare * 1000:.1f} ms (patch {patch}), with logging, W&B offline and checkpoints"
        row(note, f"{overhead:+.1%}", "10%", overhead <= 0.10)
        start = min(start_up(Path(folder) / str(turn)) for turn in range(3))
        row("a job from its start to the end of its first training step", f"{start:.1f} s", "8 s", start <= 8)
        again = finished_sweep(Path(folder) / "sweep")
        row("six finished jobs, called again", f"{again:.1f} s", "10 s", again <= 10)
    console = Console()
    console.print(table)
    console.print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}", style="dim", highlight=False)


def step_times(folder: Path, rounds: int, steps: int) -> tuple[int, float, float]:
    """The patch side whose bare step is nearest to STEP_MS, and the fastest mean step of both loops in seconds."""
    clips = demo_clips(4, 0, 1, 1, 10).train
    candidates = {patch: bare_loop(clips, patch, 12) for patch in PATCHES}
    patch = min(PATCHES, key=lambda side: abs(candidates[side] - STEP_MS / 1000))
    bare, platform = [], []
    for turn in range(rounds):
        bare.append(bare_loop(clips, patch, steps))
        platform.append(platform_loop(clips, patch, steps, folder / f"turn{turn}"))
    return patch, min(bare), min(platform)


def bare_loop(clips: Any, patch: int, steps: int) -> float:
    """Mean seconds of a step of a loop without any framework."""
    torch.manual_seed(0)
    network = BasicVSR(TINY).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    loader = patch_loader(PatchDataset(clips, FRAMES, patch, 4, 0), StepSampler(steps, BATCH), 0)
    started = 0.0
    for number, batch in enumerate(loader):
        if number == 1:  # the first step warms up
            started = time.perf_counter()
        low_NTCHW, high_NTCHW = batch.floats()
        loss = charbonnier(network(low_NTCHW).frames_NTCHW, high_NTCHW)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    return (time.perf_counter() - started) / (steps - 1)


def platform_loop(clips: Any, patch: int, steps: int, folder: Path) -> float:
    """Mean seconds of a step of the pretraining stage as a job runs it, with the demo's logging."""
    torch.manual_seed(0)
    module = Pretrain(BasicVSR(TINY), steps, LR, "onecycle")
    ends: list[float] = []
    folder.mkdir()
    state = JobState(folder)
    label = RunLabel(name="run", group="", job_type="none", project="overhead")
    with tracked(["wandb"], "offline", label, config={}, folder=folder, warn=print) as tracker, working() as right:

        def on_row(values: dict[str, Any]) -> None:
            state.step(values["stage"], values["step"])
            tracker.row(values)

        def between_steps() -> None:
            right.give_way()
            ends.append(time.perf_counter())

        fit(
            module,
            clips,
            Sampling(BATCH, patch, FRAMES, 0),
            Session(folder, log_every=10, checkpoint_every=100, on_row=on_row, between_steps=between_steps),
        )
    return (ends[-1] - ends[0]) / (steps - 1)


def start_up(folder: Path) -> float:
    """Seconds of a process that trains one step and stops."""
    return timed("until=pretrain", "schedule.pretrain.steps=1", *places(folder))


def finished_sweep(folder: Path) -> float:
    """Seconds of six jobs whose every stage exists."""
    sweep = ("-m", "rsc=true,false", "ratio=0.3,0.5,0.7", *SMALL_JOBS, *places(folder))
    timed(*sweep)
    return min(timed(*sweep) for _ in range(3))


def places(folder: Path) -> list[str]:
    """Overrides that keep store and runs in `folder`."""
    return [f"store_dir={folder / 'store'}", f"runs_dir={folder / 'runs'}"]


def timed(*overrides: str) -> float:
    """Seconds of `python src/run.py` with these overrides."""
    started = time.perf_counter()
    subprocess.run([sys.executable, str(RUN), *overrides], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
