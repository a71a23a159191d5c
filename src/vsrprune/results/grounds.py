"""What results must share to be compared: clips, protocol and task, and the dense network, whose replicates are one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vsrprune.results.replicates import Job
from vsrprune.results.result import Result
from vsrprune.results.settings import flatten

# What makes the dense network, beside the seeds that make replicates of it.
OF_DENSE = ("model", "pretrained", "pretrained_flow", "schedule.flow", "schedule.pretrain", "schedule.batch",
            "schedule.patch", "schedule.frames", "trainer.precision")  # fmt: skip
OF_CLIPS = ("data", "task", "evaluate.protocol")
WITHOUT_EFFECT = ("data.on_error", "data.train_path")
NAMED_FIRST = ("data.name", "model.name", "task.name")  # by their values alone


def by_ground(jobs: Iterable[Job], apart_from: Sequence[str] = ()) -> list[list[Job]]:
    """Jobs whose results can be compared, together: those that share their reference, or the knobs that make one.

    Groups are in the order of their first jobs, and jobs in the order given.

    apart_from: knobs, or groups of them, that may differ all the same: `model` where networks are compared.
    """
    every = list(jobs)
    grounds: list[tuple[set[str], list[int]]] = []
    for place, job in enumerate(every):
        # Knobs that a stage does not read differ without effect, which its key says; and seeds make other keys.
        signs = {job.result.stages["reference"], json.dumps(ground_of(job.result, apart_from), sort_keys=True)}
        joined = [ground for ground in grounds if ground[0] & signs]
        grounds = [ground for ground in grounds if not ground[0] & signs]
        places = [place, *(member for ground in joined for member in ground[1])]
        grounds.append((signs.union(*(ground[0] for ground in joined)), sorted(places)))
    return [[every[place] for place in places] for places in sorted(places for _, places in grounds)]


def ground_of(result: Result, apart_from: Sequence[str] = ()) -> dict[str, Any]:
    """The knobs, by dotted names, on which it depends what a result can be compared with."""
    knobs = flatten(result.knobs)
    names = [name for name in knobs if _within(name, (*OF_CLIPS, *OF_DENSE)) and name not in WITHOUT_EFFECT]
    # A published set is the same wherever it lies.
    places = () if knobs.get("data.name") == "folder" else ("data.path",)
    return {name: knobs[name] for name in names if name not in places and not _within(name, apart_from)}


def _within(name: str, groups: Sequence[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def ground_names(grounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each of some values of `ground_of`, of no more knobs than it takes to tell them apart."""
    every = dict.fromkeys([*NAMED_FIRST, *(name for ground in grounds for name in ground)])
    told: list[str] = []
    for name in every:
        if _different(grounds, [*told, name]) > _different(grounds, told):
            told.append(name)
    return [", ".join(_words(ground, told)) or str(grounds[0].get("data.name", "")) for ground in grounds]


def _different(grounds: Sequence[Mapping[str, Any]], names: Sequence[str]) -> int:
    return len({json.dumps([ground.get(name) for name in names]) for ground in grounds})


def _words(ground: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name in NAMED_FIRST:
            yield str(ground[name])
        elif name in ground:
            yield f"{name}={ground[name]}"
