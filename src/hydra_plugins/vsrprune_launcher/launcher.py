"""Hydra's launcher of this project: check all jobs, run those that are not finished as processes, print one table.

Hydra's own launchers run jobs inside one process: one `sys.exit`, out-of-memory kill or segfault loses the rest, and
W&B runs merge. Here a job is an ordinary call of the script; the parent imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from rich.console import Console

from hydra_plugins.vsrprune_launcher.as_typed import differing_jobs, numbers_as_typed, typed_numbers
from hydra_plugins.vsrprune_launcher.cards import blocks_of, dividing, sharing
from hydra_plugins.vsrprune_launcher.composing import SweepComposer
from hydra_plugins.vsrprune_launcher.elsewhere import Elsewhere, shares_nothing
from hydra_plugins.vsrprune_launcher.engines import ENGINES, Call, Ended, Submit
from hydra_plugins.vsrprune_launcher.summary import DONE, FAILED, REUSED, STOPPED, print_summary
from hydra_plugins.vsrprune_launcher.under_way import Display, SweepJob, SweepOutlook, status_lines
from vsrprune.cli import complain, composed_config, explained
from vsrprune.config.job import Config
from vsrprune.config.machine import LauncherConfig
from vsrprune.config.tree import config_tree
from vsrprune.errors import UserError
from vsrprune.host.devices import visible_cards
from vsrprune.host.failures import (
    STATE,
    FailureCard,
    JobState,
    card_of_exit,
    card_of_lost_worker,
    forget_failure,
    read_state,
    retry_command,
)
from vsrprune.host.machine import is_measuring
from vsrprune.host.naming import (
    check_sweep_name,
    claim_sweep_name,
    job_names,
    mark_latest,
    sweep_name,
    telling_overrides,
)
from vsrprune.host.outlook import SWEEP, Foretold
from vsrprune.host.processes import OUTPUT, POLL_SECONDS, PREEMPTED, ask_to_stop
from vsrprune.host.progress import readable_time
from vsrprune.jobs.collect import collect, has_its_result
from vsrprune.jobs.devices import runs_elsewhere
from vsrprune.jobs.dry_run import print_plan
from vsrprune.jobs.header import print_header, sweep_header, time_line
from vsrprune.jobs.outlook import foretell
from vsrprune.jobs.planning import changed_network, config_warnings, missing_stages, plan_job
from vsrprune.jobs.runner import needs_no_process, open_store
from vsrprune.results.result import RESULT
from vsrprune.results.terminal import once_each
from vsrprune.stages.job import Job
from vsrprune.store.atomic import explain_os_error
from vsrprune.store.store import Store

INTERRUPTED = 130
# A process that is not training (it imports, or reads clips) dies of a signal by which its group is asked to stop.
STOPS = (PREEMPTED, INTERRUPTED, -signal.SIGTERM, -signal.SIGINT)
REQUEUES = 3  # of a job whose machine asked it to stop while the sweep goes on


@dataclass
class VsrpruneLauncherConfig:
    """Hydra's configuration node of the launcher; its settings are in the group `launcher`."""

    _target_: str = "hydra_plugins.vsrprune_launcher.launcher.VsrpruneLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="vsrprune", node=VsrpruneLauncherConfig)


class VsrpruneLauncher(Launcher):
    """One child process per job, on the engine that `launcher` names."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self._config, self._composer = config, SweepComposer(hydra_context.config_loader, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs. Exits with 2 before the first if a value is wrong, with 1 at the end if a job failed."""
        hydra = self._config.hydra
        # Hydra's own record of a sweep, of which .hydra of every job says more; in a folder of this process, since
        # another sweep may begin in the same moment.
        with contextlib.suppress(OSError):
            (Path(hydra.sweep.dir) / "multirun.yaml").unlink()
            Path(hydra.sweep.dir).rmdir()
        swept = [*hydra.overrides.task, *(f"{name}={value}" for name, value in (hydra.sweeper.params or {}).items())]
        overrides = differing_jobs(job_overrides, typed_numbers(swept))
        if len(overrides) < len(job_overrides):
            print(f"note: equal jobs run once: {len(overrides)} of {len(job_overrides)}", flush=True)
        if not overrides:
            sys.exit(complain("the sweep has no job: a glob() or range() in the command gives no value"))
        names = job_names(overrides, numbers_as_typed(swept))
        console = Console()
        jobs = [self._plan(name, items) for name, items in zip(names, overrides, strict=True)]
        first = jobs[0].config
        sweep, root = self._named(first, overrides)
        if first.print_config:
            console.print(config_tree([job.config for job in jobs]))
        store = open_store(jobs[0], print)
        if first.dry_run:
            print_plan(list(zip(names, jobs, strict=True)), store, console)
            sys.exit(0)
        threads = training_threads(first)
        sweep_jobs = [
            SweepJob(
                name,
                f"job {number}/{len(jobs)}: {name}",
                job,
                (root / name).absolute(),
                self._command(root / name, items, {"tracking.group": sweep, "launcher.threads": threads}),
            )
            for number, (name, job, items) in enumerate(zip(names, jobs, overrides, strict=True), start=1)
        ]
        with explained():
            mark_latest(root.parent, root)
            print_header(sweep_header(jobs, list(map(telling_overrides, overrides)), store, root), console)
            seconds = foretell(jobs, store, lambda text: print(text, flush=True))
            print_header(time_line(jobs, store, seconds), console)
            console.print()
            for line in once_each("warning", [config_warnings(job.config) for job in jobs]):
                print(line, flush=True)
            run = Sweep(sweep_jobs, threads, seconds)
            outcomes = run.run()
        print_summary(outcomes, root, store, console)
        if run.stopped_by:
            print("stopped; the same command goes on where the jobs are", file=sys.stderr)
            sys.exit(run.stopped_by)
        if FAILED in outcomes.values():
            sys.exit(1)
        return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]

    def _named(self, config: Config, overrides: Sequence[Sequence[str]]) -> tuple[str, Path]:
        """The sweep's name and folder; exits with 2 for a name that is no good, or another sweep's."""
        own, name = sweep_name(str(self._config.hydra.job.config_name), overrides), config.sweep.name
        runs = Path(config.runs_dir).expanduser()
        if name is None:
            return own, runs / own
        with explained():
            check_sweep_name(name)
            claim_sweep_name(name, own, runs / name, begins=not config.dry_run)
        return name, runs / name

    def _plan(self, name: str, overrides: list[str]) -> Job:
        """Compose and check one job without running it."""
        try:
            config = composed_config(self._composer.compose(overrides), Config)
            if config.doctor:
                raise UserError("doctor=true looks at one data set; run it without -m")
            return plan_job(config)
        except (UserError, OSError) as error:
            text = explain_os_error(error) if isinstance(error, OSError) else str(error)
            if text is None:
                raise
            sys.exit(complain(f"{text} (job {name}; no job was started)"))

    def _command(self, folder: Path, overrides: list[str], own: Mapping[str, object]) -> list[str]:
        """The command of one job: also what a failure card gives for retrying it by hand."""
        command = [sys.executable, str(Path(sys.argv[0]).absolute())]
        for source in self._config.hydra.runtime.config_sources:
            flag = {"main": "--config-path", "command-line": "--config-dir"}.get(source.provider)
            if flag:
                command += [flag, source.path]
        command += ["--config-name", str(self._config.hydra.job.config_name)]
        # The sweep's own values take the place of what was typed: a command gives each knob once.
        shown_once = (*own, "print_config", "sweep.name")
        typed = [item for item in overrides if item.partition("=")[0].lstrip("+") not in shown_once]
        hydra = [
            item for item in self._config.hydra.overrides.hydra if not item.startswith(("hydra.mode=", "hydra.run."))
        ]
        given = [f"{name}={value}" for name, value in own.items()]
        return [*command, *typed, *given, *hydra, "hydra.mode=RUN", f"hydra.run.dir={_quoted(folder)}"]


class Sweep:
    """The jobs of one sweep under way on an engine.

    A job starts when no running job of the sweep computes, or is about to compute, the stage that it needs next: it
    would only wait, in a place where another job can work.
    """

    def __init__(self, jobs: Sequence[SweepJob], threads: int, seconds: Mapping[str, float] | None = None) -> None:
        """seconds: what is foretold of the stages, by their keys."""
        self._jobs, self._threads = jobs, threads
        self._store: Store = open_store(jobs[0].job, print)
        self._outlook = SweepOutlook(seconds or {}, self._store)
        self._pending = list(jobs)
        self._running: dict[Future[Ended], SweepJob] = {}
        first = jobs[0].job.config
        self._elsewhere = Elsewhere(first) if shares_nothing(first) else None
        self._outcomes: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self.stopped_by = 0  # exit code, once someone asked the sweep to stop

    def run(self) -> dict[str, str]:
        """Run all jobs and return the outcome of each, by name, in their order."""
        config = self._jobs[0].job.config
        self._alone = config.launcher.jobs == 1 and config.launcher.name == "local"
        trainers = [item.job.config.trainer for item in self._jobs]
        gpus = max((trainer.devices for trainer in trainers if trainer.accelerator == "gpu"), default=0)
        self._drop_finished()
        for item in self._pending:
            JobState.waiting(item.folder)
        if self._pending:
            before = signal.signal(signal.SIGTERM, self._asked_to_stop)
            try:
                launcher = replace(config.launcher, jobs=min(config.launcher.jobs, len(self._pending)))
                blocks = self._blocks(launcher, gpus)
                with ENGINES[launcher.name](launcher, gpus, self._threads) as submit:
                    self._work_off(dividing(submit, blocks) if blocks else submit, launcher.jobs)
            finally:
                signal.signal(signal.SIGTERM, before)
        return {item.name: self._outcomes.get(item.name, STOPPED) for item in self._jobs}

    def _blocks(self, launcher: LauncherConfig, gpus: int) -> list[str]:
        """What each job sees of this machine's cards, `gpus` at a time; empty where all see what is there."""
        if runs_elsewhere(launcher):
            return []
        for note in dict.fromkeys(item.job.place.note for item in self._pending if item.job.place.note):
            print(note, flush=True)
        if self._alone:
            return []
        blocks = blocks_of(visible_cards(), gpus) if gpus else []
        if not blocks:
            return []
        if shared := sharing(launcher.jobs, blocks, gpus):
            print(shared, flush=True)
        return blocks

    def _work_off(self, submit: Submit, at_once: int) -> None:
        display = Display()
        # Alone, a job shows itself how far it is.
        with contextlib.nullcontext() if self._alone else display.shown():
            while self._pending or self._running:
                try:
                    self._start_ready(submit, at_once)
                    self._take_ended()
                    if not self._alone:
                        display.show(partial(self._status, at_once))
                except KeyboardInterrupt:
                    if self.stopped_by:
                        raise
                    self._stop(INTERRUPTED)

    def _status(self, at_once: int) -> list[str]:
        return status_lines(self._outlook, list(self._running.values()), self._pending, len(self._jobs), at_once)

    def _take_ended(self) -> None:
        """Take the exit codes of ended jobs.

        No future is kept: while one lives, Dask runs its job again if the worker that ran it is lost.
        """
        done, _ = wait(self._running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            self._ended(self._running.pop(future), future)

    def _drop_finished(self) -> None:
        for item in list(self._pending):
            if self._is_finished(item):
                self._pending.remove(item)

    def _is_finished(self, item: SweepJob) -> bool:
        """Whether the store has all of a job; its folder is brought up to date then."""
        if not needs_no_process(item.job, self._store, item.folder):
            return False
        # The results of jobs elsewhere came from there: to fetch all their stages would take hours for thousands.
        here = self._elsewhere is not None and has_its_result(item.job, item.folder)
        if not (here or collect(item.job, self._store, item.folder)):
            return False
        print(f"{item.title} (finished before)", flush=True)
        forget_failure(item.folder)
        (item.folder / STATE).unlink(missing_ok=True)
        self._outcomes[item.name] = REUSED
        return True

    def _start_ready(self, submit: Submit, at_once: int) -> None:
        awaited = self._awaited()
        for item in list(self._pending):
            if len(self._running) >= at_once or self.stopped_by or (self._running and is_measuring()):
                return
            if not self._is_ready(item, awaited):
                continue
            self._pending.remove(item)
            if self._is_finished(item):  # an earlier job made all of it
                continue
            forget_failure(item.folder)
            (item.folder / RESULT).unlink(missing_ok=True)
            item.folder.mkdir(parents=True, exist_ok=True)
            if changed := changed_network(item.job):
                self._refuse(item, changed)
                continue
            log = None if self._alone else item.folder / OUTPUT
            print(item.title if log is None else f"{item.title} (started)", flush=True)
            self._started[item.name] = time.monotonic()
            item.to_make = frozenset(missing_stages(item.job, self._store))
            awaited |= item.to_make
            told = (self._outlook.of_job(item, self._pending) if self._alone else Foretold()).text()
            call = Call(item.command, os.getcwd(), item.folder, log)
            if self._elsewhere is not None:
                call = replace(call, command=self._elsewhere.arguments(item), elsewhere=self._elsewhere.root)
                call.environment.update(self._elsewhere.environment)
                JobState(item.folder).stage("on a worker")
            call.environment[SWEEP] = told
            self._running[submit(call)] = item

    def _refuse(self, item: SweepJob, cause: str) -> None:
        """Fail a job that its process would run on another network."""
        advice = "put the file back, or leave it; then run the sweep again, which plans all jobs anew"
        FailureCard(*read_state(item.folder), cause, advice, retry_command(item.command[1:])).save(item.folder)
        print(f"{item.title} (failed: {cause})", flush=True)
        self._outcomes[item.name] = FAILED

    def _awaited(self) -> set[str]:
        """What running jobs are going to make."""
        return {key for other in self._running.values() for key in missing_stages(other.job, self._store)}

    def _is_ready(self, item: SweepJob, awaited: set[str]) -> bool:
        """Whether the stage that the job needs next is none of those; what comes after may be finished by then."""
        missing = missing_stages(item.job, self._store)
        return not missing or missing[0] not in awaited

    def _ended(self, item: SweepJob, future: Future[Ended]) -> None:
        error = None if future.cancelled() else future.exception()
        code = PREEMPTED if future.cancelled() else 1 if error else future.result()
        if isinstance(code, tuple):
            code = Elsewhere.bring(item, *code)
        if code == INTERRUPTED or (self.stopped_by and code in STOPS):
            self.stopped_by = self.stopped_by or code
            return
        if code == PREEMPTED and item.requeued < REQUEUES:
            item.requeued += 1
            print(f"{item.title} (was asked to stop by its machine; queued again)", flush=True)
            self._pending.append(item)
            JobState.waiting(item.folder)
            return
        self._outcomes[item.name] = FAILED if code else DONE
        self._outlook.ended(item)
        if code and FailureCard.load(item.folder) is None:
            retry = retry_command(item.command[1:])
            card = card_of_lost_worker(error, item.folder, retry) if error else card_of_exit(code, item.folder, retry)
            with contextlib.suppress(OSError):  # on a full disk; the other jobs and the summary still come
                card.save(item.folder)
        if not self._alone:
            took = readable_time(time.monotonic() - self._started[item.name])
            end = f"failed after {took}: {item.folder / OUTPUT}" if code else f"done in {took}"
            print(f"{item.title} ({end})", flush=True)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop(PREEMPTED)

    def _stop(self, code: int) -> None:
        """Start nothing more; running jobs write a checkpoint and leave."""
        self.stopped_by = code
        self._pending.clear()
        kept = [item for future, item in self._running.items() if not future.cancel()]
        if self._elsewhere is not None and kept:
            with contextlib.suppress(UserError):  # the storage is gone: the jobs stop by themselves, for lack of it
                self._elsewhere.stop()
            return
        for item in kept:
            ask_to_stop(item.folder)


def training_threads(config: Config) -> int:
    """Threads of each job's training: as configured, or its share of this machine; 0 lets PyTorch choose."""
    launcher = config.launcher
    if launcher.threads or launcher.address:
        return launcher.threads
    if launcher.options:
        return int(launcher.options["cores"])
    if launcher.jobs == 1:
        return 0
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // launcher.jobs)


def _quoted(folder: Path) -> str:
    """A path as Hydra's grammar reads it back unchanged, commas and equals signs included."""
    return "'" + str(folder).replace("\\", "\\\\").replace("'", "\\'") + "'"
