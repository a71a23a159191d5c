"""Run a job's missing stages in their order; a published one is only opened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vsrprune.errors import UserError
from vsrprune.host.failures import JobState
from vsrprune.host.machine import measuring, working
from vsrprune.host.tracking import Tracker
from vsrprune.metrics.tf32 import tf32
from vsrprune.stages.bench import Bench, Shared
from vsrprune.stages.graph import RECIPES
from vsrprune.stages.job import Job
from vsrprune.stages.recipe import StagePlan
from vsrprune.store.store import Store


def run_stages(job: Job, store: Store, tracker: Tracker, state: JobState, say: Callable[[str], None]) -> None:
    """Make every artifact of the job that the store does not have; `state` keeps on disk how far it is."""
    # Asked for here and not while planning, which does not import torch.
    if job.config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu needs a CUDA device, and this machine has none; use trainer=cpu")
    shared = Shared(job, _Reporter(tracker, state), say)
    folders: dict[str, Path] = {}
    for plan in job.stages:
        state.stage(plan.name)
        artifact = store.find(plan.stage, plan.key)
        if artifact is None:
            artifact = store.produce(plan.stage, plan.key, plan.settings, partial(_make, plan, shared, folders))
            say(f"  {plan.name:<10} done in {artifact.seconds:.1f} s")
        else:
            say(f"  {plan.name:<10} reused {plan.key}")
        folders[plan.name] = artifact.folder


class _Reporter:
    """Tells the state on disk and the tracker how far a stage is."""

    def __init__(self, tracker: Tracker, state: JobState) -> None:
        self._tracker, self._state = tracker, state

    def begun(self, stage: str, steps: int = 0) -> None:
        self._state.stage(stage, steps)

    def row(self, stage: str, row: dict[str, Any]) -> None:
        self._state.step(stage, row["step"], row.get("loss_reconstruction"))
        self._tracker.row({**row, "stage": stage})


def _make(plan: StagePlan, shared: Shared, folders: dict[str, Path], folder: Path, work: Path) -> None:
    """Make one artifact in `folder`, from those of the stages before, which lie in `folders` by their names."""
    recipe, job = RECIPES[plan.stage], shared.job
    read = {role: RECIPES[job.stage(name).stage].artifact.load(folders[name]) for role, name in plan.parents.items()}
    alone = _alone(shared) if recipe.alone(job.config) else _beside_others(shared)
    # Results are computed in float32 as it is written; what trains or is timed may say otherwise for itself.
    with tf32(False), alone as give_way:
        recipe.make(Bench(plan, folder, work, shared, give_way), recipe.inputs(**read)).save(folder)


@contextlib.contextmanager
def _beside_others(shared: Shared) -> Iterator[Callable[[], None]]:
    """Make a stage beside other jobs of this machine, with this job's share of its threads."""
    config = shared.job.config
    # A sweep divides the cores between its jobs by launcher.threads; a stage that takes times has the machine for
    # itself, and leaves that share aside.
    with working() as right, _threads(config.trainer.threads or config.launcher.threads):
        yield right.give_way


@contextlib.contextmanager
def _alone(shared: Shared) -> Iterator[Callable[[], None]]:
    """Make a stage that takes times, alone on this machine and with all its threads."""
    waits = "  waits until the other jobs of this machine pause"
    with measuring(lambda: shared.say(waits)), _threads(shared.job.config.trainer.threads):
        yield lambda: None


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with so many threads; 0 leaves PyTorch's choice."""
    before = torch.get_num_threads()
    # The number of threads is the process's, and later stages of the same job may want another.
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
