"""Run one job into its folder: stages that are missing, then the result, mirrored to the tracker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from vsrprune.errors import UserError
from vsrprune.host.failures import JobState
from vsrprune.host.machine import working
from vsrprune.host.outlook import Foretold
from vsrprune.host.progress import StageProgress
from vsrprune.host.tracking.table import is_tracked, tracked
from vsrprune.host.tracking.tracker import RunLabel, Tracker
from vsrprune.host.tracking.wandb_runs import lasting_run_id
from vsrprune.jobs.collect import collect
from vsrprune.jobs.devices import runs_elsewhere
from vsrprune.jobs.planning import config_warnings, is_finished
from vsrprune.results.result import RESULT, Result
from vsrprune.stages.graph import RECIPES
from vsrprune.stages.job import Job, store_folder
from vsrprune.store.atomic import left_by_writers, read_json
from vsrprune.store.places import open_place
from vsrprune.store.remote_store import Terms
from vsrprune.store.sealed import checksum_of
from vsrprune.store.store import FORMAT, MANIFEST, Store


def open_store(job: Job, say: Callable[[str], None]) -> Store:
    """The store of a job's configuration. Raises UserError for a store of an older version."""
    config = job.config
    _refuse_older(store_folder(config))
    terms = Terms(config.store.lease_seconds, config.store.mirror_minutes * 60, config.store.cache_gb * 1e9)
    return open_place(
        config.store_dir,
        lambda text: say(f"warning: {text}"),
        say,
        terms,
        config.store.upstream,
        config.store.cache_dir,
    )


def _refuse_older(root: Path) -> None:
    """Raise UserError for a store that an older version wrote: its artifacts have other files under other keys."""
    for stage in RECIPES:
        for path in (root / stage).glob(f"[!.]*/{MANIFEST}"):
            with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):  # the store deals with damage
                manifest = read_json(path)
                whole = manifest.pop("manifest_sha256", None) == checksum_of(manifest)
                if whole and manifest.get("format") != FORMAT:
                    raise UserError(
                        f"store_dir={root} was written by an older version of vsrprune, which this one cannot read;"
                        " name another store_dir, or delete this one"
                    )
            break


def run_job(
    job: Job, folder: Path, say: Callable[[str], None], foretold: Foretold | None = None, noted: bool = False
) -> Result | None:
    """Run a job; None if `until` stops it before its evaluation. torch is imported only if a stage is missing.

    foretold: the time that it is to take. noted: its warnings and notes were printed before, by its sweep.
    """
    config = job.config
    store = open_store(job, say)
    state = JobState(folder)
    for path in [*left_by_writers(folder), *left_by_writers(folder / "crops")]:
        path.unlink(missing_ok=True)
    for warning in () if noted else config_warnings(config):
        say(f"warning: {warning}")
    # Before the tracker starts: a finished job opens no run in W&B, and imports no torch.
    if needs_no_process(job, store, folder):
        collected = collect(job, store, folder)
        if collected is not None:
            state.finished()
            return collected.result
    # Another machine than that of its sweep has cards of its own.
    if job.place.note and not (noted and not runs_elsewhere(config.launcher)):
        say(job.place.note)
    with ExitStack() as stack:
        # Imports take seconds, and would be in the way of a measurement.
        with StageProgress("start") as starting, working(job.place.uuids):
            if config.tracking.to:
                starting.does(f"starts {', '.join(config.tracking.to)}")
            tracker = stack.enter_context(_tracker(job, store, folder, say))
        for _ in range(2):  # again only if an artifact turned out to be damaged after the stages ran
            if not is_finished(job, store):
                with StageProgress("start") as starting, working(job.place.uuids):
                    starting.does("imports PyTorch")
                    from vsrprune.stages.run import run_stages

                run_stages(job, store, tracker, state, say, foretold or Foretold())
            collected = collect(job, store, folder)
            if collected is not None:
                if collected.result is not None:
                    tracker.finished(collected.result, folder)
                state.finished()
                return collected.result
    raise UserError(f"the artifacts in {store.root} keep failing their checksums; check the disk")


def _tracker(job: Job, store: Store, folder: Path, say: Callable[[str], None]) -> AbstractContextManager[Tracker]:
    config = job.config
    to = _untracked(job, folder) if is_finished(job, store) else config.tracking.to
    label = RunLabel(
        name=folder.name,
        group=config.tracking.group or "single runs",
        job_type=config.method.name,
        project=config.tracking.project,
        entity=config.tracking.entity,
        tags=(config.method.name, config.rule, config.model.name, config.data.name, f"replicate {config.replicate}"),
        run_id=lasting_run_id(folder, in_sweep=bool(config.tracking.group)) if "wandb" in to else "",
    )
    return tracked(
        to,
        config.tracking.mode,
        label,
        config={**config.knobs(), "rule": config.rule},
        folder=folder,
        warn=lambda text: say(f"warning: {text}"),
    )


def needs_no_process(job: Job, store: Store, folder: Path) -> bool:
    """Whether `collect` alone brings the job's folder up to date."""
    return is_finished(job, store) and not _untracked(job, folder)


def _untracked(job: Job, folder: Path) -> list[str]:
    """The trackers that a job whose stages are all there has still to be told of its result."""
    # A job that ends before its evaluation, and computes nothing, has nothing to show.
    to = job.config.tracking.to if job.config.until == "evaluate" else []
    # A run of W&B that was uploaded may have been deleted here, and would be uploaded twice.
    once = {"wandb"} if (folder / RESULT).is_file() else set()
    return [name for name in to if name not in once and not is_tracked(folder, name)]
