"""What a run or a sweep says of itself before its first stage."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vsrprune.config.job import Config, pretrained_file
from vsrprune.data.demo_photos import TRAIN_PHOTOS
from vsrprune.host.progress import readable_time
from vsrprune.jobs.estimate import steps_of
from vsrprune.jobs.planning import missing_stages
from vsrprune.jobs.speed import held_out
from vsrprune.results.terminal import short_count
from vsrprune.selection.budget import REALTIME
from vsrprune.stages.job import Job
from vsrprune.store.store import Store

Lines = dict[str, str]  # what a line is about -> its text
VALUES_SHOWN, TEXTS_SHOWN = 6, 2
LABEL_WIDTH = len("schedule")


def print_header(lines: Lines, console: Console) -> None:
    """One line for each, which goes on below itself where it is longer than the terminal is wide."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True, min_width=LABEL_WIDTH)
    table.add_column(overflow="fold")
    for name, text in lines.items():
        table.add_row(name, Text(text))
    console.print(table)


def job_header(job: Job, store: Store, folder: Path) -> Lines:
    """Of a single job."""
    return {
        "model": model_text(job),
        "method": _method(job.config),
        "data": data_text(job),
        "schedule": schedule_text(job),
        "device": device_text(job),
        "results": f"{folder}; stages in {store.place}",
        "stages": stages_text([job], store),
    }


def sweep_header(jobs: Sequence[Job], overrides: Sequence[Sequence[str]], store: Store, root: Path) -> Lines:
    """Of a sweep, once for all of its jobs. overrides: those of each job, in order."""
    launcher = jobs[0].config.launcher
    at_once = "one at a time" if launcher.jobs == 1 else f"{launcher.jobs} at a time"
    where = "" if launcher.name == "local" else f" by {launcher.name}"
    varying = "; ".join(f"{name} {_listed(values)}" for name, values in varying_values(overrides).items())
    return {
        "sweep": f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}, {at_once}{where}{varying and f': {varying}'}",
        "model": _of_all(jobs, model_text),
        "method": _of_all(jobs, lambda job: job.config.method.name),
        "data": _of_all(jobs, data_text),
        "schedule": _of_all(jobs, schedule_text),
        "device": _of_all(jobs, device_text),
        "results": f"{root}; stages in {store.place}",
        "stages": stages_text(jobs, store),
    }


def varying_values(overrides: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The knobs in which jobs differ, and their values in the order of the jobs; a job without one has its default."""
    found: dict[str, list[str]] = {}
    for job in overrides:
        for item in job:
            name, _, value = item.lstrip("+").partition("=")
            found.setdefault(name, []).append(value)
    differing = {name: list(dict.fromkeys(values)) for name, values in found.items()}
    return {
        name: values if len(found[name]) == len(overrides) else ["(default)", *values]
        for name, values in differing.items()
        if len(values) > 1 or len(found[name]) < len(overrides)
    }


def _listed(values: Sequence[str]) -> str:
    if len(values) <= VALUES_SHOWN:
        return ", ".join(values)
    return f"{', '.join(values[:2])} ... {values[-1]} ({len(values)} values)"


def _of_all(jobs: Sequence[Job], text_of: Callable[[Job], str]) -> str:
    texts = list(dict.fromkeys(map(text_of, jobs)))
    more = len(texts) - TEXTS_SHOWN
    return "\n".join(texts[:TEXTS_SHOWN]) + (f"\nand {more} more" if more > 0 else "")


def model_text(job: Job) -> str:
    """The network: its name, its parameters as tables count them, and its scale."""
    config = job.config
    read = f", read from {pretrained_file(config)}" if config.pretrained else ""
    size = f"{short_count(job.layout.parameters())} parameters"
    task = "" if config.task.name == "sr" else f", task {config.task.name}"
    return f"{config.model.name}, {size}{_beside_flow(job)}, scale {job.arguments.scale}{task}{read}"


def _beside_flow(job: Job) -> str:
    return " beside the flow net" if job.arguments.trains_flow_alone else ""


def _method(config: Config) -> str:
    of = {"units": "units", "macs": "the MACs", "params": "the parameters"}
    share = f"ratio {config.ratio:g} of {of.get(config.target, 'the milliseconds')}"
    asked = f"{config.target_ms:g} ms per frame" if config.target_ms else share
    asked += f" ({1000 / config.target_ms:g} frames per second)" if config.target == REALTIME else ""
    return f"{config.method.name}, rule {config.rule}, {asked}"


def data_text(job: Job) -> str:
    """The clips: how many to train on, held out and to test on, their frames and their size at full resolution."""
    data, scale = job.config.data, job.arguments.scale
    held, test = held_out(job)
    train = len(TRAIN_PHOTOS) * data.demo_train_per_photo if job.sources is None else len(job.sources.train)
    tested = f", {test.clips} to test on" if test.clips else ""
    height, width = (side * scale for side in held.size)
    frames = f"{held.frames:.0f} frames of {width}x{height}"
    beside = len(job.sources.unlabelled) if job.sources else 0
    more = f", {beside} without truth beside them" if beside else ""
    untrue = ", none with a truth" if data.truth == "none" else ""
    return f"{data.name}: {train} clips to train on{more}, {held.clips} held out{tested}{untrue}; {frames}"


def schedule_text(job: Job) -> str:
    """The schedule: its name, the steps of every stage that trains, and the clips of a step."""
    schedule = job.config.schedule
    steps = {plan.name: steps_of(plan) for plan in job.stages}
    if job.config.pretrained:
        steps.pop("pretrain", None)
    trained = ", ".join(f"{name} {count:,}" for name, count in steps.items() if count)
    longer = schedule.finetune_frames
    finetune = f" ({longer} in finetune)" if longer != schedule.frames else ""
    clips = f"{schedule.batch} clips of {schedule.frames}{finetune} frames of {schedule.patch}x{schedule.patch} a step"
    return f"{schedule.name}: {trained} steps; {clips}" if trained else f"{schedule.name}: nothing trains"


def device_text(job: Job) -> str:
    """What the job computes on, with how many threads, and how precisely where that is not float32."""
    trainer, launcher, cards = job.config.trainer, job.config.launcher, job.place.cards
    threads = trainer.threads or launcher.threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    counted = f"{threads} thread{'s' if threads > 1 else ''}" if threads else "PyTorch chooses the number of threads"
    device = ", ".join(card.name for card in cards) or ("GPU" if trainer.accelerator == "gpu" else "cpu")
    return ", ".join([device, counted, *([trainer.precision] if trainer.precision != "32-true" else [])])


def stages_text(jobs: Sequence[Job], store: Store) -> str:
    """How many stages there are to compute, and how many exist."""
    keys = {stage.key for job in jobs for stage in job.stages}
    missing = {key for job in jobs for key in missing_stages(job, store)}
    shared = f", which {len(jobs)} jobs share" if len(jobs) > 1 else ""
    return f"{len(keys)}{shared}: {len(keys) - len(missing)} exist, {len(missing)} to compute"


def time_line(jobs: Sequence[Job], store: Store, seconds: Mapping[str, float]) -> Lines:
    """How long all that is missing takes; no line unless all of it is foretold. seconds: of stages, by their keys."""
    missing = {key for job in jobs for key in missing_stages(job, store)}
    if not missing or not all(key in seconds for key in missing):
        return {}
    at_once = min(jobs[0].config.launcher.jobs, len(jobs))
    return {"time": f"about {readable_time(sum(seconds[key] for key in missing) / at_once)}"}
