"""`launcher=local`: check all jobs, run those that are not finished as child processes, print one table.

Hydra's own launchers run jobs inside one process: one `sys.exit`, out-of-memory kill or segfault loses the rest, and
W&B runs merge. Here a job is an ordinary call of the script; the parent imports no torch.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from vsrprune.config import Config
from vsrprune.errors import UserError
from vsrprune.failures import CARD, FailureCard, card_of_exit, retry_command
from vsrprune.jobs import Job, collect, plan_job, read_measured
from vsrprune.naming import job_names, sweep_name
from vsrprune.results import RESULT, Result
from vsrprune.runner import needs_no_process, open_store
from vsrprune.store import explain_os_error
from vsrprune.sweep_table import Row, print_layers, print_plan, print_results, print_seeds

DONE, REUSED, FAILED = "done", "reused", "failed"
PREEMPTED = 143  # exit code of a job that was asked to stop and wrote a checkpoint


@dataclass
class LocalLauncherConfig:
    """Hydra's configuration node of the launcher."""

    _target_: str = "hydra_plugins.vsrprune_launcher.local.LocalLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="vsrprune_local", node=LocalLauncherConfig)


class LocalLauncher(Launcher):
    """One child process per job, one after the other."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self._context, self._config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs. Exits with 2 before the first if a value is wrong, with 1 at the end if a job failed."""
        overrides = [list(items) for items in job_overrides]
        names = job_names(overrides)
        console = Console()
        jobs = [self._plan(name, items) for name, items in zip(names, overrides, strict=True)]
        sweep = sweep_name(str(self._config.hydra.job.config_name), overrides)
        root = Path(jobs[0].config.runs_dir).expanduser() / sweep
        if jobs[0].config.dry_run:
            print_plan(list(zip(names, jobs, strict=True)), open_store(jobs[0], print), console)
            sys.exit(0)
        outcomes: dict[str, str] = {}
        for number, (name, job, items) in enumerate(zip(names, jobs, overrides, strict=True), start=1):
            title = f"job {number}/{len(jobs)}: {name}"
            outcomes[name] = self._run(title, job, root / name, [*items, f"tracking.group={sweep}"])
        _summary(outcomes, root, console)
        if FAILED in outcomes.values():
            sys.exit(1)
        return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]

    def _plan(self, name: str, overrides: list[str]) -> Job:
        """Compose and check one job without running it."""
        try:
            composed = self._context.config_loader.load_sweep_config(self._config, overrides)
            with open_dict(composed):
                del composed["hydra"]
            config = OmegaConf.to_object(composed)
            assert isinstance(config, Config)
            return plan_job(config)
        except (UserError, OSError) as error:
            text = explain_os_error(error) if isinstance(error, OSError) else str(error)
            if text is None:
                raise
            print(f"error in job {name}: {text} (no job was started)", file=sys.stderr)
            sys.exit(2)

    def _run(self, title: str, job: Job, folder: Path, overrides: list[str]) -> str:
        """Run one job unless the store has all of it; what became of it."""
        store = open_store(job, print)
        if needs_no_process(job, store, folder) and collect(job, store, folder) is not None:
            print(f"{title} (finished before)", flush=True)
            (folder / CARD).unlink(missing_ok=True)
            return REUSED
        print(title, flush=True)
        for stale in (RESULT, CARD):
            (folder / stale).unlink(missing_ok=True)
        command = self._command(folder, overrides)
        code = _call(command)
        if code == 0:
            return DONE
        if code == PREEMPTED:
            sys.exit(PREEMPTED)
        if FailureCard.load(folder) is None:
            folder.mkdir(parents=True, exist_ok=True)
            card_of_exit(code, folder, retry_command(command[1:])).save(folder)
        return FAILED

    def _command(self, folder: Path, overrides: list[str]) -> list[str]:
        command = [sys.executable, sys.argv[0]]
        for source in self._config.hydra.runtime.config_sources:
            flag = {"main": "--config-path", "command-line": "--config-dir"}.get(source.provider)
            if flag:
                command += [flag, source.path]
        command += ["--config-name", str(self._config.hydra.job.config_name)]
        return [*command, *overrides, "hydra.mode=RUN", f"hydra.run.dir={_quoted(folder)}"]


def _quoted(folder: Path) -> str:
    """A path as Hydra's grammar reads it back unchanged, commas and equals signs included."""
    return "'" + str(folder).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _call(command: list[str]) -> int:
    """Run a child to its end. SIGTERM is handed on to it, so that it can write a checkpoint, and ends the sweep."""
    child = subprocess.Popen(command)
    asked_to_stop = False

    def hand_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        child.send_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        code = child.wait()
    except KeyboardInterrupt:  # the child got the signal too and says so
        child.wait()
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)
    return PREEMPTED if asked_to_stop else code


def _summary(outcomes: Mapping[str, str], root: Path, console: Console) -> None:
    """Print the sweep's table from the result files, and what became of every job, whatever happened."""
    rows = [
        Row(" ".join(name.split(",")), Result.load(root / name), read_measured(root / name))
        for name, outcome in outcomes.items()
        if outcome != FAILED and (root / name / RESULT).is_file()
    ]
    if rows:
        print_results(rows, console)
        print_seeds(rows, console)
        print_layers(rows, console)
    for name, outcome in outcomes.items():
        card = FailureCard.load(root / name) if outcome == FAILED else None
        if card is not None:
            print(f"failed: {name} in {card.stage}, step {card.step}: {card.cause}", file=sys.stderr)
            print(f"  what to change: {card.advice}\n  retry it alone: {card.command}", file=sys.stderr)
    counts = [f"{list(outcomes.values()).count(outcome)} {outcome}" for outcome in (DONE, REUSED, FAILED)]
    print(f"{len(outcomes)} jobs: {', '.join(counts)}; files: {root}", flush=True)
