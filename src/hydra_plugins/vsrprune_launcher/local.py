"""`launcher=local`: check all jobs, run those that are not finished as child processes, print one table.

Hydra's own launchers run jobs inside one process: one `sys.exit`, out-of-memory kill or segfault loses the rest, and
W&B runs merge. Here a job is an ordinary call of the script; the parent imports no torch.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from vsrprune.config import Config
from vsrprune.errors import UserError
from vsrprune.jobs import Job, collect, plan_job, read_measured
from vsrprune.naming import job_names, sweep_name
from vsrprune.results import RESULT, Result
from vsrprune.runner import needs_no_process, open_store
from vsrprune.sweep_table import Row, print_layers, print_plan, print_results


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
        failed = []
        for number, (name, job, items) in enumerate(zip(names, jobs, overrides, strict=True), start=1):
            if not self._run(
                f"job {number}/{len(jobs)}: {name}", job, root / name, [*items, f"tracking.group={sweep}"]
            ):
                failed.append(name)
        returns = _summary(names, jobs, root, failed, console)
        if failed:
            sys.exit(1)
        return returns

    def _plan(self, name: str, overrides: list[str]) -> Job:
        """Compose and check one job without running it."""
        try:
            composed = self._context.config_loader.load_sweep_config(self._config, overrides)
            with open_dict(composed):
                del composed["hydra"]
            config = OmegaConf.to_object(composed)
            assert isinstance(config, Config)
            return plan_job(config)
        except UserError as error:
            print(f"error in job {name}: {error} (no job was started)", file=sys.stderr)
            sys.exit(2)

    def _run(self, title: str, job: Job, folder: Path, overrides: list[str]) -> bool:
        """Run one job unless the store has all of it; whether it succeeded."""
        store = open_store(job, print)
        if needs_no_process(job, store, folder) and collect(job, store, folder) is not None:
            print(f"{title} (finished before)", flush=True)
            return True
        print(title, flush=True)
        (folder / RESULT).unlink(missing_ok=True)
        try:
            return subprocess.run(self._command(folder, overrides), check=False).returncode == 0
        except KeyboardInterrupt:  # the child got the signal too and has said so
            sys.exit(130)

    def _command(self, folder: Path, overrides: list[str]) -> list[str]:
        command = [sys.executable, sys.argv[0]]
        for source in self._config.hydra.runtime.config_sources:
            if source.provider == "command-line":
                command += ["--config-dir", source.path]
        command += ["--config-name", str(self._config.hydra.job.config_name)]
        return [*command, *overrides, "hydra.mode=RUN", f"hydra.run.dir={_quoted(folder)}"]


def _quoted(folder: Path) -> str:
    """A path as Hydra's grammar reads it back unchanged, commas and equals signs included."""
    return "'" + str(folder).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _summary(
    names: Sequence[str], jobs: Sequence[Job], root: Path, failed: Sequence[str], console: Console
) -> list[JobReturn]:
    """Print the sweep's table from the result files, whatever happened."""
    rows = [
        Row(" ".join(name.split(",")), Result.load(root / name), read_measured(root / name))
        for name in names
        if (root / name / RESULT).is_file() and name not in failed
    ]
    if rows:
        print_results(rows, console)
        print_layers(rows, console)
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    print(f"files: {root}")
    return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]
