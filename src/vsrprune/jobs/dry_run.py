"""What `dry_run=true` prints: stages that exist, stages to do, and what sharing saves."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.jobs.housekeeping import estimated_cost, readable_size, readable_time
from vsrprune.stages.job import Job
from vsrprune.store.store import Store


def print_plan(jobs: Sequence[tuple[str, Job]], store: Store, console: Console) -> None:
    """dry_run: the jobs, their distinct stages, which exist, what sharing saves, and what is to come. Runs nothing."""
    # By key, so that a stage that several jobs share counts once.
    plans = {stage.key: stage for _, job in jobs for stage in job.stages}
    missing = {key: plan for key, plan in plans.items() if not store.exists(plan.stage, key)}
    for number, (label, job) in enumerate(jobs, start=1):
        to_do = [stage.name for stage in job.stages if stage.key in missing]
        console.print(f"#{number} {label}: {', '.join(to_do) or 'finished'}", highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("stage", "jobs", "distinct", "exist", "to do", "time", "disk"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for name in dict.fromkeys(stage.stage for _, job in jobs for stage in job.stages):
        distinct = [plan for plan in plans.values() if plan.stage == name]
        left = [plan for plan in missing.values() if plan.stage == name]
        jobs_with = sum(any(stage.stage == name for stage in job.stages) for _, job in jobs)
        counts = (jobs_with, len(distinct), len(distinct) - len(left), len(left))
        table.add_row(name, *map(str, counts), *_readable_cost(estimated_cost(store, left)))
    console.print(table)
    # Stages that jobs share stand here once for each job.
    asked = [stage for _, job in jobs for stage in job.stages]
    time, disk = _readable_cost(estimated_cost(store, list(missing.values())))
    alone, _ = _readable_cost(estimated_cost(store, asked))
    console.print(
        f"{len(jobs)} jobs ask for {len(asked)} stages; {len(plans)} are distinct, {len(missing)} are to do:"
        f" {time} and {disk}, estimated from the stages this store has timed. Without sharing all jobs would take"
        f" {alone}. Nothing was run: dry_run=true.",
        highlight=False,
    )


def _readable_cost(cost: tuple[float, float] | None) -> tuple[str, str]:
    return ("unknown", "unknown") if cost is None else (readable_time(cost[0]), readable_size(cost[1]))
