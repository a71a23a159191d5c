"""The same setting under several seeds: which results belong together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vsrprune.results.replicates import Job
from vsrprune.results.result import Result

SEEDS = ("replicate", "pretrain_seed", "seed")
# Rows that other rows are judged by: knob and value, and what they are in words.
CONTROLS = {("method", "dense"): "dense, trained on", ("units", "random"): "same counts, random units"}


def setting_of(result: Result) -> str:
    """The knobs but the seeds, as JSON: the same text for jobs that differ by their seeds alone."""
    # A text, since nested knobs cannot be a dict's key; sorted, so that their order does not count.
    return json.dumps({name: value for name, value in result.knobs.items() if name not in SEEDS}, sort_keys=True)


def by_setting(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """Jobs that differ by their seeds alone, together; settings in the order of their first job."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(setting_of(job.result), []).append(job)
    return groups


def in_words(label: str) -> str:
    """A label of overrides, such as `method=dense ratio=0.5`, with the names of controls in words."""
    words = label.split()
    said = [CONTROLS.get((name, value), word) for word in words for name, _, value in (word.partition("="),)]
    return label if said == words else ", ".join(said)


def steps_note(results: Sequence[Result]) -> str:
    """Whether rows were trained for equally many steps after pretraining, and for how many."""
    least, most = (choose(result.steps for result in results) for choose in (min, max))
    if least == most:
        return f"Trained for {most} steps after pretraining."
    return (
        f"Rows differ in training steps after pretraining, {least} to {most}: schedule.budget={most} makes them equal."
    )


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
