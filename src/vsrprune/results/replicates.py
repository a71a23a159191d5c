"""Replicates: the distinct dense networks that stand behind the results of a setting.

All that follows a dense network shares its luck: the scores, the plan, and the weights that training goes on from. So
runs of one network are averaged first, networks alone count as independent, and two settings are compared over the
replicates that both have: on the same dense networks where settings share them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from vsrprune.errors import UserError
from vsrprune.results.intervals import Interval, holm, interval, paired_difference, verdict
from vsrprune.results.result import Result

Name = tuple[int, int]  # of a replicate: the least `replicate` and `pretrain_seed` of its dense network


class HasResult(Protocol):
    """What carries a job's result, such as a row of a table."""

    @property
    def result(self) -> Result:
        """The job's result."""


Job = TypeVar("Job", bound=HasResult)


@dataclass(frozen=True)
class Replicated:
    """A number of one setting over replicates, and what stands behind it.

    over_networks: of one value per dense network, the mean of its runs. plans and runs: how many different ones.
    order_deviation: the standard deviation of runs of one network, which differ by their data order; NaN where no
    network has two.
    """

    over_networks: Interval
    plans: int
    runs: int
    order_deviation: float

    @property
    def networks(self) -> int:
        """How many different dense networks there are."""
        return self.over_networks.count

    @property
    def mean(self) -> float:
        """The mean over networks."""
        return self.over_networks.mean

    def text(self, plus_minus: str = "±") -> str:
        """The mean with half the interval, or with the spread of its data orders where there is one network."""
        if self.networks > 1:
            return f"{self.mean:.3f} {plus_minus} {self.over_networks.half_width:.3f}"
        spread = "" if math.isnan(self.order_deviation) else f" (sd {self.order_deviation:.3f})"
        return f"{self.mean:.3f}{spread}"


def final_psnr(job: HasResult) -> float:
    """PSNR of the fine-tuned network in dB, mean over clips."""
    return job.result.quality["finetuned"].psnr


def test_psnr(job: HasResult) -> float:
    """The same on the test clips. Raises UserError for a job without any."""
    if not job.result.test:
        raise UserError("these runs have no test clips; run them with data.test=[CLIP,...], or show data.val")
    return job.result.test["finetuned"].psnr


# What numbers are of: the clips that choices are made by, or those that are kept for the end.
SPLITS: Mapping[str, Callable[[HasResult], float]] = {"val": final_psnr, "test": test_psnr}


def dense_network(job: HasResult) -> str:
    """What tells a dense network from others: the key of the stage that made it."""
    return job.result.stages["pretrain"]


def replicate_names(jobs: Iterable[HasResult]) -> dict[str, Name]:
    """The name of each dense network's replicate; networks of settings that train others share names by their seeds.

    A network that is found under several seeds, such as one from a file, is one replicate.
    """
    names: dict[str, Name] = {}
    for job in jobs:
        knobs, network = job.result.knobs, dense_network(job)
        name = (knobs["replicate"], knobs["pretrain_seed"])
        names[network] = min(name, names.get(network, name))
    return names


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """The jobs whose evaluation is not the same as an earlier one's: the same run found twice counts once."""
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(job.result.stages["evaluate"], job)
    return list(first.values())


def by_network(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """The distinct runs of each dense network."""
    groups: dict[str, list[Job]] = {}
    for job in distinct(jobs):
        groups.setdefault(dense_network(job), []).append(job)
    return groups


def means_by_replicate(
    jobs: Iterable[HasResult], names: Mapping[str, Name], value: Callable[[HasResult], float] = final_psnr
) -> dict[object, float]:
    """A value by replicate, the mean over its distinct runs. names: see `replicate_names`, of these jobs and more."""
    found: dict[object, list[float]] = {}
    for network, runs in by_network(jobs).items():
        found.setdefault(names[network], []).extend(value(run) for run in runs)
    return {name: sum(values) / len(values) for name, values in found.items()}


def over_networks(values: Sequence[Sequence[float]], plans: int = 1) -> Replicated:
    """Of the values of each dense network's runs."""
    # Pooled over networks: one has few runs, and all are taken to vary alike.
    freedom = sum(len(runs) - 1 for runs in values)
    squares = sum(float(np.var(runs)) * len(runs) for runs in values)
    return Replicated(
        over_networks=interval([float(np.mean(runs)) for runs in values]),
        plans=plans,
        runs=sum(map(len, values)),
        order_deviation=math.sqrt(squares / freedom) if freedom else math.nan,
    )


def psnr_over_networks(jobs: Iterable[HasResult], split: str = "val") -> Replicated:
    """PSNR (dB) of one setting's jobs; split: one of SPLITS."""
    groups = by_network(jobs)
    plans = {json.dumps(run.result.plan.to_json(), sort_keys=True) for runs in groups.values() for run in runs}
    return over_networks([[SPLITS[split](run) for run in runs] for runs in groups.values()], len(plans))


def psnr_difference(jobs: Sequence[HasResult], reference: Sequence[HasResult], split: str = "val") -> Interval | None:
    """PSNR (dB) of one setting's jobs minus that of another's, over the replicates that both have; None without one."""
    names = replicate_names([*jobs, *reference])
    return paired_difference(*(means_by_replicate(side, names, SPLITS[split]) for side in (jobs, reference)))


@dataclass(frozen=True)
class Compared:
    """A difference to a reference among others of its table; None where no replicate is common.

    p_value: Holm's, corrected by the others; NaN without an interval.
    """

    difference: Interval | None
    p_value: float

    @property
    def verdict(self) -> str:
        """A plain word."""
        if self.difference is None:
            return "no replicate in common"
        return "one dense network" if self.difference.count == 1 else verdict(self.difference.mean, self.p_value)

    def text(self, plus_minus: str = "±") -> str:
        """The difference, with half its 95 % interval where it has one."""
        if self.difference is None:
            return ""
        half = self.difference.half_width
        return f"{self.difference.mean:+.3f}" + ("" if math.isnan(half) else f" {plus_minus} {half:.3f}")


def compared(differences: Sequence[Interval | None]) -> list[Compared]:
    """All differences of one table, their p-values corrected by each other."""
    corrected = holm([math.nan if difference is None else difference.p_value for difference in differences])
    return [Compared(*pair) for pair in zip(differences, corrected, strict=True)]


def behind(numbers: Sequence[Replicated]) -> str:
    """What stands behind each of some numbers, in words: `3 dense networks, 3 plans and 9 runs`."""
    networks = [number.networks for number in numbers]
    first = "one dense network" if max(networks) == 1 else _from_to(networks, "dense network")
    plans, runs = ([getattr(number, name) for number in numbers] for name in ("plans", "runs"))
    return f"{first}, {_from_to(plans, 'plan')} and {_from_to(runs, 'run')}"


def _from_to(counts: Sequence[int], noun: str) -> str:
    low, high = min(counts), max(counts)
    return f"{low if low == high else f'{low} to {high}'} {noun}{'' if high == 1 else 's'}"


def caption(numbers: Sequence[Replicated]) -> str:
    """What a table of such numbers must say of them: what ± is, and what stands behind it."""
    told = f"Behind each number: {behind(numbers)}."
    spread = any(number.networks == 1 and number.runs > 1 for number in numbers)
    if max(number.networks for number in numbers) > 1:
        alone = " sd: of one dense network, the spread over its data orders alone." if spread else ""
        return f"± is half the 95 % interval over dense networks, each the mean of its runs.{alone} {told}"
    return (
        f"{told} So no interval and no verdict over dense networks"
        f"{': sd is the spread over data orders alone' if spread else ''}; replicate=0,1,2 trains more."
    )
