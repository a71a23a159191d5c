"""The same setting under several seeds: which results belong together, and how two settings compare.

The seeds of a job are those of pretraining and of what follows it. Two settings are compared over the pairs of seeds
that both have: such jobs share their dense network, so that its luck is not taken for an effect of the setting.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from vsrprune.results.intervals import Interval, interval, paired_difference
from vsrprune.results.result import Result

SEEDS = ("seed", "pretrain_seed")


class HasResult(Protocol):
    """What carries a job's result, such as a row of a table."""

    @property
    def result(self) -> Result:
        """The job's result."""


Job = TypeVar("Job", bound=HasResult)


def setting_of(result: Result) -> str:
    """The knobs but the seeds, as JSON: the same text for jobs that differ by their seeds alone."""
    # A text, since nested knobs cannot be a dict's key; sorted, so that their order does not count.
    return json.dumps({name: value for name, value in result.knobs.items() if name not in SEEDS}, sort_keys=True)


def seeds_of(result: Result) -> tuple[int, ...]:
    """The values of SEEDS."""
    return tuple(result.knobs[name] for name in SEEDS)


def by_setting(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """Jobs that differ by their seeds alone, together; settings in the order of their first job."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(setting_of(job.result), []).append(job)
    return groups


def seeds_that_vary(jobs: Sequence[HasResult]) -> list[str]:
    """The names of those of SEEDS in which jobs differ."""
    return [name for name in SEEDS if len({job.result.knobs[name] for job in jobs}) > 1]


def final_psnr(job: HasResult) -> float:
    """PSNR of the fine-tuned network in dB, mean over clips."""
    return job.result.quality["finetuned"].psnr


def psnr_over_seeds(jobs: Iterable[HasResult]) -> Interval:
    """Mean PSNR (dB) of one setting's jobs, with its 95 % interval."""
    return interval([final_psnr(job) for job in jobs])


def psnr_by_seeds(jobs: Iterable[HasResult]) -> dict[object, float]:
    """PSNR (dB) by seeds: clips of one seed share a network, so they are no independent evidence."""
    return {seeds_of(job.result): final_psnr(job) for job in jobs}


def psnr_difference(jobs: Iterable[HasResult], reference: Iterable[HasResult]) -> Interval | None:
    """PSNR (dB) of one setting's jobs minus that of another's, paired over seeds; None if they share no seeds."""
    return paired_difference(psnr_by_seeds(jobs), psnr_by_seeds(reference))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested knobs by dotted names: {"model.channels": 16} for {"model": {"channels": 16}}.

    `ratios` (a number per layer) stays whole, and so do lists and empty mappings.
    """
    return dict(_flattened(values, prefix))


def _flattened(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        # The names of layers in `ratios` have dots of their own.
        if isinstance(value, Mapping) and value and name != "ratios":
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
