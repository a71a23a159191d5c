"""Prune a video super-resolution network: compose the configuration, run the job, return its PSNR.

python src/run.py                                    the demo
python src/run.py -m rsc=true,false ratio=0.3,0.5,0.7    six jobs that share one pretraining
python src/run.py --help                             the knobs that are asked for most, and where the others are
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from vsrprune.cli import (
    Command,
    check_one_run,
    composed_config,
    explained,
    leaving_no_trace,
    register,
    run_command,
)
from vsrprune.config.agreement import check_scale, validate
from vsrprune.config.job import Config
from vsrprune.config.store import MOVING
from vsrprune.config.tree import config_tree
from vsrprune.errors import PreemptedError, UserError
from vsrprune.host.failures import card_of_error, retry_command, retry_line
from vsrprune.host.naming import mark_latest, telling_overrides
from vsrprune.host.outlook import SWEEP, Foretold
from vsrprune.host.stopping import stopping_when_asked
from vsrprune.jobs.collect import read_measured
from vsrprune.jobs.devices import on_this_machine, show_only
from vsrprune.jobs.dry_run import print_plan
from vsrprune.jobs.ending import ending
from vsrprune.jobs.header import job_header, print_header, time_line
from vsrprune.jobs.housekeeping import manage_store
from vsrprune.jobs.outlook import foretell, foretold
from vsrprune.jobs.planning import find_sources, plan_job, prepared_arguments
from vsrprune.jobs.remote_housekeeping import manage_remote, move
from vsrprune.jobs.runner import open_store, run_job
from vsrprune.results.protocols import BICUBIC, BLUR
from vsrprune.results.terminal import Row, print_layers, print_results
from vsrprune.stages.job import Job, store_folder
from vsrprune.store.remote_store import RemoteStore

HELP = """\
Structured Sparsity Learning (SSL, CVPR 2023) for video super-resolution: prune a network, measure
and compare it.
Stages: flow > pretrain > score > select > sparsify > prune > finetune > evaluate. Finished ones lie
in store_dir; the same command again computes nothing twice. Wrong values are refused before any work.

Usage
  python src/run.py [KNOB=VALUE ...]                      one job
  python src/run.py -m KNOB=A,B KNOB=C,D                  a sweep: every combination
  python src/run.py -m rsc=true,false ratio=0.3,0.5,0.7   the paper's first question
  python src/run.py -cd sweeps -cn NAME                   a sweep of the folder sweeps"""

register(Config)


@hydra.main(version_base="1.3", config_path="../conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the job that Hydra composed; its PSNR in dB, or None if it stops before the evaluation."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    with leaving_no_trace(folder, hydra_config.output_subdir), explained():
        return run(config, folder)


def run(composed: DictConfig, folder: Path) -> float | None:
    """Check the configuration, run the job, print what it found."""
    config = composed_config(composed, Config)
    console = Console()
    if config.doctor:
        sys.exit(examine(config, console))
    if config.print_config:
        console.print(config_tree([config]))
    job = plan_job(config)
    if config.store.action:
        sys.exit(0 if look_after_store(job, console) else 1)
    if config.dry_run:
        print_plan([(folder.name, job)], open_store(job, print), console)
        return None
    check_one_run(config)
    in_sweep = os.environ.get(SWEEP)
    if not config.tracking.group:  # of a sweep the launcher has done it
        mark_latest(Path(config.runs_dir).expanduser(), folder)
    to_come = Foretold.read(in_sweep) if in_sweep else introduced(job, folder, console)
    show_only(job.place)
    try:
        with stopping_when_asked():
            result = run_job(job, folder, lambda text: print(text, flush=True), to_come, noted=bool(in_sweep))
    except PreemptedError:
        raise  # no failure: the job goes on when it is run again
    except Exception as error:
        with contextlib.suppress(OSError):  # on a full disk there is no room for the card either
            card_of_error(error, folder, retry_command(sys.argv)).save(folder)
            if not in_sweep:  # else the launcher says so
                print(f"  retry it alone, a knob on each line: {retry_line(folder)}", flush=True)
        raise
    if result is None:
        last = job.stages[-1]
        print(f"stopped after {last.stage}, as until={config.until} asks: {config.store_dir}/{last.stage}/{last.key}")
        return None
    if not in_sweep:  # else the launcher prints one table for all jobs
        overrides = telling_overrides(HydraConfig.get().overrides.task)
        rows = [Row(" ".join(overrides) or "defaults", result, read_measured(folder))]
        print_results(rows, console)
        print_layers(rows, console)
        print(f"files: {folder}")
        print("\n".join(ending(rows, folder, [folder], store_folder(config), config.store_dir)))
    return result.quality["finetuned"].psnr


def look_after_store(job: Job, console: Console) -> bool:
    """Do what `store.action` names; whether the store is sound as far as it was looked at."""
    asked, store, runs = job.config.store, open_store(job, print), Path(job.config.runs_dir).expanduser()
    if isinstance(store, RemoteStore) and store.own is not None:
        return manage_remote(asked, store, runs, console)
    if asked.action in MOVING:
        move(asked, store, console)
        return True
    return manage_store(asked.action, store, runs, asked.yes, console, job.clip_cache)


def introduced(job: Job, folder: Path, console: Console) -> Foretold:
    """Print the header of a single job; what is foretold of it."""
    store = open_store(job, print)
    print_header(job_header(job, store, folder), console)
    seconds = foretell([job], store, lambda text: print(text, flush=True))
    print_header(time_line([job], store, seconds), console)
    console.print()
    return foretold(job, store, seconds)


def examine(config: Config, console: Console) -> int:
    """Check the data set that a job would train on, or a test set alone; the doctor's exit code."""
    validate(config)
    if config.data.name == "demo":
        raise UserError(
            "doctor=true looks at clips on disk, and data=demo has none; use data=folder or a published set"
        )
    from vsrprune.data.doctor.doctor import DoctorSettings, Finding
    from vsrprune.data.doctor.report import check_data, print_findings

    scale, data = prepared_arguments(config).scale, config.data
    check_scale(config, scale)
    try:
        found = find_sources(config, scale, trains=False)
    except UserError as error:  # a layout in which clips cannot even be told: the worst finding there is
        print_findings([Finding("error", "data", str(error), "")], console)
        return 2
    wanted = BLUR if data.shrinking in BLUR else BICUBIC
    degradations = (data.shrinking, *(name for name in wanted if name != data.shrinking))
    settings = DoctorSettings(
        scale=data.shrunk_by(scale),
        halve=data.halve,
        frames=config.schedule.longest,
        patch=config.schedule.patch,
        skip_errors=data.on_error == "skip",
        degradations=degradations,
        frames_knob=config.schedule.longest_knob,
        max_frames=data.max_frames,
        crop=0 if data.truth == "none" else config.comparison.crop,  # of outputs, which are no frames on disk
    )
    said = [
        Finding(severity, "data", sentence, "")
        for severity, sentences in (("warning", found.warnings), ("note", found.notes))
        for sentence in sentences
    ]
    try:
        on_this_machine(config)
    except UserError as error:
        said.append(Finding("error", "trainer", str(error), ""))
    return check_data(found.train, [*found.val, *found.test], settings, said, console)


if __name__ == "__main__":
    run_command(Command("src/run.py", main, Config, HELP))
