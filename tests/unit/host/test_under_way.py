"""What a sweep says of its running jobs, and of the time that is left of it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.vsrprune_launcher.under_way import Display, SweepJob, SweepOutlook, status_lines
from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.host.failures import JobState, Reached
from vsrprune.jobs.planning import plan_job
from vsrprune.store.store import Store


def sweep_job(folder: Path, number: int, **knobs: Any) -> SweepJob:
    config = with_knobs(Config(store_dir=str(folder / "store")), knobs)
    name = f"job{number}"
    return SweepJob(name, f"job {number}/3: {name}", plan_job(config), folder / "runs" / name, [])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", print, print)


@pytest.fixture
def jobs(tmp_path: Path) -> list[SweepJob]:
    return [sweep_job(tmp_path, number, seed=number) for number in (1, 2, 3)]


def trains(item: SweepJob, stage: str, step: int, steps: int) -> None:
    state = JobState(item.folder)
    state.stage(stage, steps)
    state._written = 0.0  # it writes once a second only
    state.at(step)


def test_a_running_job_is_told_with_its_real_step(jobs: list[SweepJob], store: Store) -> None:
    trains(jobs[0], "pretrain", 26, 400)
    JobState(jobs[1].folder)
    lines = status_lines(SweepOutlook({}, store), jobs[:2], jobs[2:], 3, 2)
    assert lines == [
        "  job 1/3  pretrain 27/400  (job1)",
        "  job 2/3  start, 0 s so far  (job2)",
        "  sweep    0 of 3 ended, 2 running, 1 waiting",
    ]


def test_jobs_that_wait_beside_free_places_say_for_what(jobs: list[SweepJob], store: Store) -> None:
    JobState(jobs[0].folder)
    last = status_lines(SweepOutlook({}, store), jobs[:1], jobs[1:], 3, 2)[-1]
    assert last == "  sweep    0 of 3 ended, 1 running, 2 waiting for a stage that they share"


def test_a_job_whose_process_is_about_to_end_says_so(jobs: list[SweepJob], store: Store) -> None:
    JobState(jobs[0].folder).finished()
    assert status_lines(SweepOutlook({}, store), jobs[:1], [], 3, 2)[0] == "  job 1/3  ends  (job1)"


def test_rate_and_time_left_of_a_running_job_are_of_its_own_process() -> None:
    """It trains since step 10: 40 steps in 20 s, and 50 are left after step 49."""
    reached = Reached("finetune", step=49, steps=100, since=1000.0, since_step=9)
    assert reached.words(1020.0) == "finetune 50/100, 2.0/s, left: 25 s"
    assert reached.share == 0.5


def test_what_is_left_of_a_sweep_counts_shared_stages_once_and_steps_that_are_done(
    jobs: list[SweepJob], store: Store
) -> None:
    keys = {plan.key for item in jobs for plan in item.job.stages}
    outlook = SweepOutlook(dict.fromkeys(keys, 60.0), store)
    assert outlook.left([], jobs, 1) == 60.0 * len(keys)
    trains(jobs[0], "pretrain", 99, 400)
    assert outlook.left(jobs[:1], jobs[1:], 1) == 60.0 * (len(keys) - 0.25)
    assert outlook.left(jobs[:1], jobs[1:], 2) == 30.0 * (len(keys) - 0.25)


def test_the_pace_of_running_jobs_counts_and_no_sweep_ends_before_them(
    jobs: list[SweepJob], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that was foretold with 60 s has made 100 of 400 steps in 300 s: it takes 1,200 s, and 900 are left."""
    keys = {plan.key for item in jobs for plan in item.job.stages}
    outlook = SweepOutlook(dict.fromkeys(keys, 60.0), store)
    reached = Reached("pretrain", step=99, steps=400, since=1000.0, since_step=-1)
    monkeypatch.setattr(Reached, "read", classmethod(lambda cls, folder: reached))
    monkeypatch.setattr(time, "time", lambda: 1300.0)
    assert outlook.left(jobs[:1], jobs[1:], 1) == pytest.approx(20 * 60.0 * (len(keys) - 0.25))
    assert outlook.left(jobs[:1], jobs[1:], 3) == pytest.approx(max(900.0, 20 * 60.0 * (len(keys) - 0.25) / 3))
    own = {plan.key for plan in jobs[0].job.stages if plan.name != "pretrain"}
    for plan in jobs[0].job.stages:
        if plan.key in own:
            store.produce(plan.stage, plan.key, {}, lambda folder, work: None)
    assert outlook.left(jobs[:1], [], 1) == pytest.approx(900.0)


def test_nothing_is_said_of_a_sweep_of_which_a_stage_was_not_foretold(jobs: list[SweepJob], store: Store) -> None:
    keys = [plan.key for plan in jobs[0].job.stages]
    outlook = SweepOutlook(dict.fromkeys(keys, 60.0), store)
    assert outlook.left(jobs[:1], [], 1) == 60.0 * len(keys)
    assert outlook.left(jobs[:1], jobs[1:], 1) is None
    assert outlook.of_job(jobs[0], jobs[1:]).stages == {}
    assert SweepOutlook({}, store).left(jobs, [], 1) is None


def test_a_job_is_told_what_it_makes_and_what_comes_after_it(jobs: list[SweepJob], store: Store) -> None:
    keys = {plan.key for item in jobs for plan in item.job.stages}
    own = {plan.key for plan in jobs[0].job.stages}
    told = SweepOutlook(dict.fromkeys(keys, 60.0), store).of_job(jobs[0], jobs[1:])
    assert set(told.stages) == own
    assert told.later == 60.0 * len(keys - own)


def test_stages_that_took_twice_as_long_make_the_rest_twice_as_long(
    jobs: list[SweepJob], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {plan.key for item in jobs for plan in item.job.stages}
    outlook = SweepOutlook(dict.fromkeys(keys, 60.0), store)
    names = [plan.name for plan in jobs[0].job.stages]
    jobs[0].to_make = frozenset(plan.key for plan in jobs[0].job.stages if plan.name != "flow")
    measured = dataclasses.make_dataclass("M", ["stage_seconds"])(dict.fromkeys(names, 120.0) | {"flow": 9e9})
    monkeypatch.setattr("hydra_plugins.vsrprune_launcher.under_way.read_measured", lambda folder: measured)
    outlook.ended(jobs[0])
    made = {plan.key for plan in jobs[0].job.stages}
    for plan in jobs[0].job.stages:
        store.produce(plan.stage, plan.key, {}, lambda folder, work: None)
    assert outlook.left([], jobs[1:], 1) == 120.0 * len(keys - made)


def test_a_log_gets_the_lines_after_5_seconds_and_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    display = Display()
    with display.shown():
        for second in range(41):
            now[0] = float(second)
            display.show(lambda: [f"at {now[0]:.0f}"])
    assert capsys.readouterr().out == "at 5\nat 10\nat 20\nat 40\n"
