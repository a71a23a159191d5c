"""Run a job's missing stages in their order; a published one is only opened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vsrprune.errors import UserError
from vsrprune.host.allocator import keep_freed_memory
from vsrprune.host.failures import JobState
from vsrprune.host.machine import measuring, working
from vsrprune.host.outlook import Foretold, Outlook
from vsrprune.host.progress import StageProgress
from vsrprune.host.tracking.tracker import Tracker
from vsrprune.metrics.tf32 import tf32
from vsrprune.selection.scores import is_own
from vsrprune.stages.bench import Bench, Shared, finish
from vsrprune.stages.graph import RECIPES
from vsrprune.stages.job import Job
from vsrprune.stages.recipe import StagePlan
from vsrprune.stages.score.trial import try_own_score
from vsrprune.stages.training.hardware import check_graphs, check_precision
from vsrprune.store.store import Store

BUSY_PERCENT = 5  # of a card that all jobs of this user have left


def run_stages(
    job: Job,
    store: Store,
    tracker: Tracker,
    state: JobState,
    say: Callable[[str], None],
    foretold: Foretold = Foretold(),  # noqa: B008 (frozen)
) -> None:
    """Make every artifact of the job that the store does not have; `state` keeps on disk how far it is."""
    keep_freed_memory()
    shared = Shared(job, _Reporter(tracker, state), say)
    check_precision(job.config.trainer.precision, shared.device.type)
    check_cuda(shared.device, job.config.trainer.devices)
    check_graphs(job.config.trainer.graphs, shared.device.type)
    unscored = any(plan.stage == "score" and not store.exists(plan.stage, plan.key) for plan in job.stages)
    if unscored and is_own(job.config.score):
        try_own_score(job, shared.device)
    # Whoever made the reference, in which the notes on clips are, has told them.
    shared.clips_noted = any(plan.stage == "reference" and store.exists(plan.stage, plan.key) for plan in job.stages)
    folders: dict[str, Path] = {}
    outlook = Outlook(foretold)
    for plan in job.stages:
        state.stage(plan.name)
        artifact = store.find(plan.stage, plan.key)
        if artifact is None:
            words = partial(outlook.words, plan.key)
            with StageProgress(plan.name, left=words, on_step=lambda done: state.at(done - 1)) as progress:
                shared.progress = progress
                artifact = store.produce(plan.stage, plan.key, plan.settings, partial(_make, plan, shared, folders))
            outlook.ended(plan.key, artifact.seconds)
            say(f"  {plan.name:<10} done in {artifact.seconds:.1f} s")
        else:
            outlook.ended(plan.key, None)
            say(f"  {plan.name:<10} reused {plan.key}")
        folders[plan.name] = artifact.folder


def check_cuda(device: torch.device, count: int) -> None:
    """Raise UserError if PyTorch cannot use so many GPUs, with its reason: an old driver, for example."""
    # Asked for here too, since planning counts cards without torch, and not at all for jobs on other machines.
    if device.type != "cuda":
        return
    try:
        torch.cuda.init()
        found = torch.cuda.device_count()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"trainer.accelerator=gpu: {' '.join(str(error).split())}; or use trainer=cpu") from error
    if found < count:
        raise UserError(f"trainer.devices={count} is more GPUs than PyTorch finds on this machine, {found}")


class _Reporter:
    """Tells the state on disk and the tracker how far a stage is."""

    def __init__(self, tracker: Tracker, state: JobState) -> None:
        self._tracker, self._state = tracker, state

    def begun(self, stage: str, steps: int = 0) -> None:
        self._state.stage(stage, steps)

    def row(self, stage: str, row: dict[str, Any]) -> None:
        self._state.step(stage, row["step"], row.get("loss_reconstruction", row.get("loss_unlabelled")))
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
    with (
        working(shared.job.place.uuids, partial(finish, shared.device)) as right,
        _threads(config.trainer.threads or config.launcher.threads),
    ):
        yield right.give_way


@contextlib.contextmanager
def _alone(shared: Shared) -> Iterator[Callable[[], None]]:
    """Make a stage that takes times, alone on its card or, without one, on this machine, with all its threads."""
    cards = shared.job.place.cards
    waits = f"  waits until the other jobs of this {'GPU' if cards else 'machine'} pause"
    card = cards[0].uuid if cards else ""
    with measuring(lambda: shared.say(waits), card), _threads(shared.job.config.trainer.threads):
        if cards and "disturbance" not in vars(shared) and shared.disturbance >= BUSY_PERCENT:  # said once in a job
            shared.say(f"warning: others keep {cards[0].name} busy ({shared.disturbance} %): times will be too long")
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
