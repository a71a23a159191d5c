"""What can be compared: by the key of the reference or the knobs that make one; and what groups are called."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from vsrprune.results.grounds import OF_DENSE, by_ground, ground_names, ground_of


@dataclass(frozen=True)
class Job:
    name: str
    result: Any


def job(name: str, reference: str = "", **changes: Any) -> Job:
    knobs: dict[str, Any] = {
        "data": {"name": "demo", "path": "", "on_error": "fail"}, "task": {"name": "sr"}, "seed": 0, "ratio": 0.5,
        "evaluate": {"protocol": "full", "crops": 2}, "model": {"name": "tiny", "channels": 16}, "pretrained": "",
        "schedule": {"pretrain": {"steps": 600}, "finetune": {"steps": 100}},
    }  # fmt: skip
    for path, value in changes.items():
        *groups, last = path.split("__")
        node = knobs
        for group in groups:
            node = node[group]
        node[last] = value
    return Job(name, SimpleNamespace(knobs=knobs, stages={"reference": reference or name}))


def names(jobs: list[Job], apart_from: tuple[str, ...] = ()) -> list[str]:
    return ["".join(item.name for item in group) for group in by_ground(jobs, apart_from)]


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"ratio": 0.3}, {"schedule__finetune__steps": 9}, {"evaluate__crops": 0},
                {"data__on_error": "skip"}, {"data__path": "/elsewhere"}],
)  # fmt: skip
def test_what_makes_no_other_reference_but_a_replicate_parts_nothing(changes: dict[str, Any]) -> None:
    assert names([job("a"), job("b", **changes)]) == ["ab"]


@pytest.mark.parametrize(
    "changes", [{"data__name": "vid4"}, {"task__name": "denoise"}, {"evaluate__protocol": "published"},
                {"model__channels": 64}, {"schedule__pretrain__steps": 9}, {"pretrained": "file"}],
)  # fmt: skip
def test_what_makes_another_reference_parts_jobs(changes: dict[str, Any]) -> None:
    assert names([job("a"), job("b", **changes)]) == ["a", "b"]
    assert names([job("a", "one key"), job("b", "one key", **changes)]) == ["ab"]  # the knob was idle


def test_jobs_that_share_a_key_or_knobs_with_one_job_are_one_group() -> None:
    """b has the knobs of a and the key of c; d has neither."""
    jobs = [job("a"), job("d", data__name="vid4"), job("c", "key", pretrained="file"), job("b", "key")]
    assert names(jobs) == ["acb", "d"]


def test_folders_of_clips_are_told_by_their_paths() -> None:
    jobs = [job("a", data__name="folder", data__path="/one"), job("b", data__name="folder", data__path="/two")]
    assert names(jobs) == ["a", "b"]
    assert ground_names([ground_of(item.result) for item in jobs]) == ["data.path=/one", "data.path=/two"]


def test_networks_can_be_compared_where_that_is_asked_for() -> None:
    jobs = [job("a"), job("b", model__name="wide", model__channels=64), job("c", schedule__pretrain__steps=9)]
    assert names(jobs, ("model",)) == ["ab", "c"]
    assert names(jobs, OF_DENSE) == ["abc"]


def test_names_say_no_more_than_tells_groups_apart() -> None:
    jobs = [
        job("a"),
        job("b", model__name="wide", model__channels=64),
        job("c", data__name="vid4", schedule__pretrain__steps=9),
        job("d", data__name="vid4"),
    ]
    assert ground_names([ground_of(item.result) for item in jobs]) == [
        "demo, tiny, schedule.pretrain.steps=600",
        "demo, wide, schedule.pretrain.steps=600",
        "vid4, tiny, schedule.pretrain.steps=9",
        "vid4, tiny, schedule.pretrain.steps=600",
    ]
    assert ground_names([ground_of(jobs[0].result)]) == ["demo"]
