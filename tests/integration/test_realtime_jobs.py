"""target=realtime in real engines: whole networks are timed in every way, and what is said is what was measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import minimal_config

from vsrprune.engines.extras import installed
from vsrprune.jobs.in_time import in_time
from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.results.measured import Measured
from vsrprune.results.terminal import Row

pytestmark = pytest.mark.long
REAL = {
    "target": "realtime",
    "round_to": "auto",
    "score": "taylor",
    "method__name": "best",
    "method__sparsify": False,
    "score_batches": 1,
    "model__bidirectional": False,
}


def run(folder: Path, target_ms: float, **changes: Any) -> tuple[Row, list[str]]:
    said: list[str] = []
    job = plan_job(minimal_config(folder, **{**REAL, "target_ms": target_ms, **changes}))
    result = run_job(job, folder / "runs" / "job", said.append)
    assert result is not None
    return Row("job", result, Measured.load(folder / "runs" / "job")), said


def timed(said: list[str]) -> list[tuple[int, str]]:
    """Units cut and the fastest way of the plans whose networks were timed."""
    lines = (re.search(r"a plan with (\d+) units cut takes [\d.]+ ms per frame in (.*)", line) for line in said)
    return [(int(line[1]), line[2]) for line in lines if line]


def test_networks_are_timed_in_every_engine_and_in_int8(tmp_path: Path, small_frames: None) -> None:
    row, said = run(tmp_path, 1e6, quantise__name="int8", quantise__clips=1, quantise__frames=2)
    ways = ["torch", *(f"{engine}{precision}" for engine in installed() for precision in ("", " in int8"))]
    ((cut, way),) = timed(said)
    assert cut == 0, "nothing is cut where the dense network is in time"
    assert way in ways
    assert row.result.plan.units_cut == 0
    assert row.result.budget.reached == row.result.budget.dense <= row.result.budget.wanted
    assert list(row.measured.engine_ms) == installed()
    assert all(list(times) == ["dense", "float32", "int8"] for times in row.measured.engine_ms.values())
    assert set(installed()) <= set(row.measured.versions)
    (line,) = in_time([row])
    assert " of 0.001 asked for; " in line
    # All ways are in time, so that the nearest to the truth is taken.
    assert row.result.int8 is not None
    assert (" in int8," in line) == (row.result.int8.quality.psnr > row.result.quality["finetuned"].psnr)


def test_a_network_that_cannot_be_in_time_is_the_fastest_there_is(tmp_path: Path, small_frames: None) -> None:
    row, said = run(tmp_path, 1e-3)
    plans = timed(said)
    assert plans[0][0] == 0
    assert max(cut for cut, _ in plans) > 0
    assert row.result.budget.reached > row.result.budget.wanted
    assert any("1e+06 frames per second are not reached on this device" in note for note in row.result.notes)
    assert all(set(times) == {"dense", "float32"} for times in row.measured.engine_ms.values())


def test_an_engine_that_is_named_counts_alone(tmp_path: Path, small_frames: None) -> None:
    row, said = run(tmp_path, 1e6, evaluate__engine="onnxruntime")
    assert timed(said) == [(0, "onnxruntime")]
    assert list(row.measured.engine_ms) == ["onnxruntime"]
    assert " in onnxruntime, flow net included " in in_time([row])[0]
