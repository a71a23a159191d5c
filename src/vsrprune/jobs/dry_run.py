"""What `dry_run=true` prints: stages that exist, stages to do, what they will take, and what sharing saves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.host.progress import StageProgress, readable_time
from vsrprune.jobs.devices import runs_elsewhere
from vsrprune.jobs.estimate import Price, costs_by_key
from vsrprune.jobs.housekeeping import readable_size
from vsrprune.jobs.speed import Speed, Speeds
from vsrprune.stages.job import Job
from vsrprune.stages.recipe import StagePlan
from vsrprune.store.store import Store


@dataclass(frozen=True)
class _Outlook:
    """Jobs, each with the speed of its network, their distinct stages by key, those to do, and what each costs."""

    jobs: Sequence[tuple[Job, Speed | None]]
    plans: Mapping[str, StagePlan]
    missing: Mapping[str, StagePlan]
    costs: Mapping[str, Price | None]


def print_plan(jobs: Sequence[tuple[str, Job]], store: Store, console: Console, speeds: Speeds | None = None) -> None:
    """dry_run: the jobs, their distinct stages, which exist, what sharing saves, and what is to come. Runs no stage."""
    # By key, so that a stage that several jobs share counts once.
    plans = {stage.key: stage for _, job in jobs for stage in job.stages}
    missing = {key: plan for key, plan in plans.items() if not store.exists(plan.stage, key)}
    for number, (label, job) in enumerate(jobs, start=1):
        to_do = [stage.name for stage in job.stages if stage.key in missing]
        console.print(f"#{number} {label}: {', '.join(to_do) or 'finished'}", highlight=False)
    speeds = speeds or Speeds(lambda text: console.print(text, highlight=False))
    # Nothing is timed for what is finished.
    with StageProgress("timing"):
        timed = [(job, speeds.of(job) if missing else None) for _, job in jobs]
    outlook = _Outlook(timed, plans, missing, costs_by_key(timed) if missing else {})
    console.print(_table(outlook))
    for sentence in _in_words(outlook, speeds):
        console.print(sentence, highlight=False)


def _table(outlook: _Outlook) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("stage", "jobs", "distinct", "exist", "to do", "time", "disk"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for name in dict.fromkeys(stage.stage for job, _ in outlook.jobs for stage in job.stages):
        distinct = [plan for plan in outlook.plans.values() if plan.stage == name]
        left = [key for key, plan in outlook.missing.items() if plan.stage == name]
        jobs_with = sum(any(stage.stage == name for stage in job.stages) for job, _ in outlook.jobs)
        counts = (jobs_with, len(distinct), len(distinct) - len(left), len(left))
        table.add_row(name, *map(str, counts), *_readable(_sum(outlook.costs[key] for key in left)))
    return table


def _in_words(outlook: _Outlook, speeds: Speeds) -> list[str]:
    jobs, missing, costs = outlook.jobs, outlook.missing, outlook.costs
    # Stages that jobs share stand here once for each job.
    asked = [stage.key for job, _ in jobs for stage in job.stages]
    begins = _sum(_start(speed) for job, speed in jobs if any(plan.key in missing for plan in job.stages))
    time, disk = _readable(_both(_sum(costs[key] for key in missing), begins))
    ask = "job asks" if len(jobs) == 1 else "jobs ask"
    counted = (
        f"{len(jobs)} {ask} for {len(asked)} stages; {len(outlook.plans)} are distinct, {len(missing)} are to do:"
        f" {time} and {disk}."
    )
    if not missing:
        return [f"{counted} Nothing was run: dry_run=true."]
    alone, _ = _readable(_both(_sum(costs[key] for key in asked), begins))
    unshared = f" Without sharing all jobs would take {alone}." if len(jobs) > 1 else ""
    return [
        f"{counted}{unshared} Nothing was run: dry_run=true.",
        _rests_on(*jobs[0], speeds),
    ]


def _rests_on(job: Job, speed: Speed | None, speeds: Speeds) -> str:
    launcher = job.config.launcher
    if speed is None:
        return f"time and disk are not known: no step could be timed on this machine ({speeds.failure})"
    notes = {
        "other programs kept it busy meanwhile, so that it may be faster": speed.busy,
        "networks beyond the first ones are scaled by their MACs alone": speeds.scaled,
        "the machines on which the jobs will run may be faster or slower": runs_elsewhere(launcher),
        f"the time is of all jobs one after the other, and launcher.jobs={launcher.jobs} run at a time": (
            launcher.jobs > 1 and not runs_elsewhere(launcher)
        ),
    }
    return "; ".join(
        [
            "Time rests on training steps, frames and comparisons that were timed on this machine"
            f" ({job.place.device}), by steps, batch, frames, patch and MACs: expect half to twice of it",
            *(note for note, holds in notes.items() if holds),
        ]
    )


def _start(speed: Speed | None) -> Price | None:
    return None if speed is None else Price(speed.start)


def _both(one: Price | None, other: Price | None) -> Price | None:
    return None if one is None or other is None else one + other


def _sum(costs: Iterable[Price | None]) -> Price | None:
    total: Price | None = Price()
    for cost in costs:
        total = _both(total, cost)
    return total


def _readable(cost: Price | None) -> tuple[str, str]:
    return ("unknown", "unknown") if cost is None else (readable_time(cost.seconds), readable_size(cost.size))
