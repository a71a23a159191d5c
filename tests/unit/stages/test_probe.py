"""A probe times what it is asked for, and says so in seconds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from forked import CONTEXT, timed_by

from vsrprune.config.job import Config
from vsrprune.jobs import speed
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.speed import probe_of, run_probe
from vsrprune.stages.probe import measured

JOB = plan_job(Config())
SMALL = replace(probe_of(JOB), batch=1, patch=16, frames=2, steps=3, shown=(32, 32), shown_frames=2, threads=1)


def test_a_probe_answers_with_seconds_of_everything() -> None:
    found = measured(SMALL)
    times = set(found) - {"parameters"}
    assert times == {"step", "narrow_step", "flow_step", "frame", "compare", "motion", "output_motion"}
    assert all(0 < seconds < math.inf for seconds in found.values())
    # Without the flow net the layout counts weights and biases; the network has gates besides.
    assert found["parameters"] > JOB.layout.parameters()


@pytest.mark.long
def test_a_probe_runs_in_a_process_of_its_own() -> None:
    found = run_probe(SMALL, JOB)
    assert not isinstance(found, str), found
    assert found["start"] > 0


def test_a_probe_that_fails_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "subprocess", timed_by(CONTEXT))
    found = run_probe(replace(SMALL, arguments="no arguments"), JOB)
    assert isinstance(found, str)
    assert "\n" not in found
    assert "str" in found
