"""The time that jobs are going to take, before they start: by this machine's speed, if it is known or worth timing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from vsrprune.host.outlook import Foretold
from vsrprune.host.progress import StageProgress
from vsrprune.jobs.devices import runs_elsewhere
from vsrprune.jobs.estimate import costs_by_key, steps_of
from vsrprune.jobs.planning import missing_stages
from vsrprune.jobs.speed import MOST_MACS, PASSES, Speeds
from vsrprune.stages.job import Job
from vsrprune.store.store import Store

WORTH = 20.0  # times as much training as a step that is timed has: below, timing would take longer than the work


def foretell(jobs: Sequence[Job], store: Store, say: Callable[[str], None]) -> dict[str, float]:
    """Seconds of the stages that jobs have to make, by their keys; those that cannot be foretold are left out.

    The first network is timed if this machine's speed is not known and the training is long enough; others are
    scaled by their MACs. Nothing is foretold of jobs that run on other machines.
    """
    missing = {key for job in jobs for key in missing_stages(job, store)}
    if not missing or runs_elsewhere(jobs[0].config.launcher):
        return {}
    speeds = Speeds(say, budget=0.0) if is_worth_timing(jobs, missing) else Speeds(_unsaid, probe=_untimed)
    with StageProgress("timing"):
        costs = costs_by_key([(job, speeds.of(job)) for job in jobs])
    return {key: cost.seconds for key, cost in costs.items() if key in missing and cost is not None}


def is_worth_timing(jobs: Sequence[Job], missing: set[str]) -> bool:
    """Whether the training that is missing is long beside the timing of a few steps."""
    most = MOST_MACS["cuda" if jobs[0].place.cards else "cpu"]
    macs: dict[str, float] = {}
    for job in jobs:
        schedule = job.config.schedule
        step = schedule.batch * schedule.frames * schedule.patch**2 * job.layout.macs_per_pixel() * PASSES
        macs |= {plan.key: steps_of(plan) * step for plan in job.stages if plan.key in missing}
    return math.fsum(macs.values()) > WORTH * most


def foretold(job: Job, store: Store, seconds: Mapping[str, float]) -> Foretold:
    """What is foretold of one job alone; nothing if one of its stages is not."""
    missing = missing_stages(job, store)
    known = all(key in seconds for key in missing)
    return Foretold({key: seconds[key] for key in missing} if known else {})


def _unsaid(text: str) -> None:
    pass


def _untimed(*asked: object) -> str:
    return "not timed"
