"""What a dry run says of time and disk, checked by closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_job import tiny_config

from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.jobs import speed as speeds_of_machine
from vsrprune.jobs.estimate import MANIFEST_BYTES, costs_of, pruned_shares
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.speed import FEWEST_FRAMES, MOST_MACS, PASSES, Speed, Speeds, held_out, probe_of
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.stages.graph import RECIPES
from vsrprune.stages.job import Job
from vsrprune.stages.probing import Probe

BATCH = 4 * 5 * 24**2  # pixels of a batch of the demo
SPEED = Speed(
    start=10.0,
    step=2.0,
    narrow_step=1.0,
    frame=0.5,
    compare=0.25,
    motion=0.125,
    output_motion=0.0625,
    parameters=100_000.0,
    pixels=BATCH,
    shown=40 * 56,
    flow_step=0.1,
)
ANSWER = {name: value for name, value in vars(SPEED).items() if name not in ("pixels", "shown", "busy")}


def job_of(**knobs: Any) -> Job:
    return plan_job(with_knobs(tiny_config(), {name.replace("__", "."): value for name, value in knobs.items()}))


def published(**schedule: int) -> Job:
    config = Config()
    config.model.arguments = BasicVSRArguments()
    config.schedule = replace(config.schedule, **schedule)
    config.data.demo_frames = 20
    return plan_job(config)


def seconds(job: Job, stage: str, speed: Speed = SPEED) -> float:
    return costs_of(job, speed)(job.stage(stage)).seconds


def test_every_stage_has_a_cost() -> None:
    jobs = [job_of(), job_of(score="taylor", round_to="auto"), job_of(quantise__name="int8")]
    planned = {plan.stage for job in jobs for plan in job.stages}
    assert planned | {"align"} == set(RECIPES)
    assert all(costs_of(job, SPEED)(plan).size >= MANIFEST_BYTES for job in jobs for plan in job.stages)


def test_training_takes_its_steps_times_the_batch_over_the_one_that_was_timed() -> None:
    assert seconds(job_of(), "pretrain") == pytest.approx(600 * 2.0)
    assert seconds(job_of(schedule__pretrain__steps=50), "pretrain") == pytest.approx(50 * 2.0)
    assert seconds(job_of(schedule__batch=8), "pretrain") == pytest.approx(600 * 2.0 * 2)
    assert seconds(job_of(schedule__frames=10), "pretrain") == pytest.approx(600 * 2.0 * 2)
    assert seconds(job_of(schedule__patch=12), "pretrain") == pytest.approx(600 * 2.0 / 4)
    assert seconds(job_of(), "flow") == pytest.approx(400 * 0.1)


def test_int8_takes_longer_with_more_clips_to_calibrate_on() -> None:
    few, more, most = (
        seconds(job_of(quantise__name="int8", quantise__clips=clips), "quantise") for clips in (4, 8, 12)
    )
    # Each is restored and compared as often, whatever their number.
    assert most - more == pytest.approx(more - few)
    assert more > few > 0
    assert seconds(job_of(quantise__name="int8"), "measure") > seconds(job_of(), "measure")


def test_fine_tuning_lies_on_the_line_through_the_dense_and_the_half_network() -> None:
    # Half of every group is the half network itself; the teacher adds a third of a dense step.
    assert seconds(job_of(tf_weight=0.0), "finetune") == pytest.approx(100 * 1.0, rel=1e-6)
    assert seconds(job_of(), "finetune") == pytest.approx(100 * (1.0 + 2.0 / 3), rel=1e-6)
    assert seconds(job_of(tf_weight=0.0, ratio=0.0), "finetune") == pytest.approx(100 * 2.0)


def test_the_dense_network_restores_what_has_no_truth() -> None:
    """Where the clips are the same, in memory: a third of a step more, or twice as many clips a step."""
    job = job_of(tf_weight=0.0)

    def of(truth: str, stage: str) -> float:
        config = with_knobs(job.config, {"data.truth": truth})
        return seconds(replace(job, config=config), stage)

    steps = job.config.schedule.sparsify.steps
    assert of("all", "sparsify") == pytest.approx(steps * 2.0)
    assert of("none", "sparsify") == pytest.approx(steps * 2.0 * 4 / 3)
    assert of("some", "sparsify") == pytest.approx(steps * 2.0 * 4 / 3 * 2)
    assert of("none", "finetune") == pytest.approx(100 * (1.0 + 2.0 / 3), rel=1e-6)
    held, _ = held_out(job)
    restored = held.clips * held.frames * 0.5 * (held.size[0] * held.size[1] / SPEED.shown)
    assert of("none", "prune") - of("all", "prune") == pytest.approx(2 * restored)
    assert of("none", "evaluate") - of("all", "evaluate") == pytest.approx(restored)


def test_a_share_of_the_macs_is_kept_as_asked() -> None:
    assert pruned_shares(job_of(target="macs", ratio=0.3))[0] == pytest.approx(0.7)
    assert pruned_shares(job_of(method__name="dense", method__sparsify=False)) == (1.0, 1.0)
    macs, parameters = pruned_shares(job_of(ratio=0.5))
    assert 0.2 < macs < 0.5
    assert 0.2 < parameters < 0.5


def test_a_network_on_disk_has_four_bytes_for_each_parameter() -> None:
    job = job_of(schedule__log_every=10**6)
    size = costs_of(job, SPEED)(job.stage("pretrain")).size
    assert size == pytest.approx(4 * SPEED.parameters + MANIFEST_BYTES, rel=1e-3)


def test_clips_of_the_demo_are_counted() -> None:
    held, test = held_out(job_of())
    assert (held.clips, held.frames, held.size) == (4, 10, (40, 56))
    assert test.clips == 0
    # Every frame twice, compared twice, and three judgements of the motion between eight pairs of four clips' frames.
    expected = 2 * 40 * 0.5 + 2 * 40 * 0.25 + 32 * (0.125 + 2 * 0.0625)
    assert seconds(job_of(), "reference") == pytest.approx(expected)


def test_a_small_training_is_timed_as_it_is() -> None:
    probe = probe_of(job_of())
    assert (probe.batch, probe.frames, probe.patch) == (4, 5, 24)
    assert probe.shown == (40, 56)


def test_of_a_large_training_a_part_is_timed() -> None:
    job = published(batch=8, frames=15, patch=40)
    probe = probe_of(job)
    assert probe.batch == 1
    assert FEWEST_FRAMES <= probe.frames < 15
    macs = PASSES * job.layout.macs_per_pixel() * probe.batch * probe.frames * probe.patch**2
    assert macs <= 1.2 * MOST_MACS["cpu"]


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds_of_machine, "is_busy", lambda: False)


@pytest.mark.usefixtures("idle")
def test_a_network_is_timed_once(tmp_path: Path) -> None:
    asked: list[Probe] = []

    def probed(probe: Probe, job: Job) -> dict[str, float]:
        asked.append(probe)
        return ANSWER

    for _ in range(2):  # the second time from the file
        speeds = Speeds(lambda text: None, tmp_path, probed)
        assert {speeds.of(job_of(ratio=ratio)) for ratio in (0.3, 0.5)} == {SPEED}
    assert len(asked) == 1
    speeds.of(job_of(schedule__patch=16))
    assert [probe.patch for probe in asked] == [24, 16]


def test_what_was_timed_on_a_busy_machine_is_timed_again_on_an_idle_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for busy in (True, True, False, False):
        monkeypatch.setattr(speeds_of_machine, "is_busy", lambda busy=busy: busy)
        found = Speeds(lambda text: None, tmp_path, lambda probe, job: asked.append(probe) or ANSWER).of(job_of())
        assert found is not None
        assert found.busy == busy
    assert len(asked) == 2


@pytest.mark.usefixtures("idle")
def test_networks_beyond_the_time_that_may_be_spent_are_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds_of_machine, "BUDGET_SECONDS", -1)
    speeds = Speeds(lambda text: None, tmp_path, lambda probe, job: ANSWER)
    small, large = job_of(), job_of(rsc=False, model__arguments=BasicVSRArguments(channels=32, blocks=3))
    assert speeds.of(small) == SPEED
    times = large.layout.macs_per_pixel() / small.layout.macs_per_pixel()
    scaled = speeds.of(large)
    assert scaled is not None
    assert scaled.step == pytest.approx(2.0 * times)
    assert speeds.scaled


def test_a_machine_that_cannot_be_timed_gives_no_numbers(tmp_path: Path) -> None:
    speeds = Speeds(lambda text: None, tmp_path / "none", lambda probe, job: "no torch")
    assert speeds.of(job_of()) is None
    assert speeds.failure == "no torch"
    assert not (tmp_path / "none").exists()
