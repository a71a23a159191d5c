"""A real sweep of two jobs: its .wandb files, read back by wandb's own reader, and the live table beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, RUN_PY, minimal_overrides
from event_files import scalars_of
from forked import Script
from PIL import Image

from analysis.watched_jobs import DONE, RUNNING, WAITING, JobRow, Watch
from vsrprune.host.tracking.csv_file import read as read_csv
from vsrprune.host.tracking.shown import summary_of
from vsrprune.host.tracking.table import tracked
from vsrprune.host.tracking.tracker import RunLabel
from vsrprune.host.tracking.wandb_runs import lasting_run_id
from vsrprune.results.measured import Measured
from vsrprune.results.result import Result

TO = ("wandb", "tensorboard", "csv")
RATIOS = ("0.3", "0.5")
STEPS = {"flow": 2, "pretrain": 4, "sparsify": 4, "finetune": 4}  # of the minimal schedule, every one logged
LOSSES = {**dict.fromkeys(STEPS, "reconstruction"), "flow": "photometric"}


@dataclass
class Mirrored:
    """A job's folder and what its .wandb file says."""

    folder: Path
    files: Path
    run: Mapping[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)

    @property
    def result(self) -> Result:
        return Result.load(self.folder)

    def steps(self, stage: str) -> list[int]:
        return [row[f"{stage}/step"] for row in self.history if f"{stage}/step" in row]


def read_back(folder: Path) -> Mirrored:
    """`wandb leet inspect` prints the records of a .wandb file as lines of JSON; it joins nested keys by dots."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"},
        check=True,
    )
    mirrored = Mirrored(folder, path.parent / "files")
    for record in map(json.loads, done.stdout.splitlines()):
        content = record.get(record["type"], {})
        if record["type"] == "run":
            mirrored.run = content
            mirrored.config.update(content["config"]["update"])
        elif record["type"] == "config":
            mirrored.config.update(content.get("update", {}))
        elif record["type"] == "summary":
            mirrored.summary.update(content.get("update", {}))
        elif record["type"] == "history":
            mirrored.history.append(content["item"])
        elif record["type"] == "metric":
            mirrored.metrics.append(content)
        elif record["type"] == "exit":
            mirrored.exit_codes.append(content.get("exit_code", 0))
    return mirrored


@dataclass
class Swept:
    """Where a sweep of two jobs wrote, and what the live table saw, look by look: rows by job."""

    folder: Path
    looks: list[dict[str, JobRow]]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Two jobs, one after the other, that share their pretraining."""
    folder = tmp_path_factory.mktemp("wandb")
    overrides = [f"ratio={','.join(RATIOS)}", f"tracking.to=[{','.join(TO)}]", *minimal_overrides(folder)]
    watch, looks = Watch([folder / "runs"]), list[dict[str, JobRow]]()
    process = Script([RUN_PY, "-m", *overrides], ROOT)
    deadline = time.monotonic() + 600
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGKILL)
        looks.append({row.folder.name: row for row in watch.look(time.time())})
        time.sleep(0.05)
    assert process.returncode == 0, process.communicate()
    return Swept(folder, looks)


@pytest.fixture(scope="module")
def jobs(sweep: Swept) -> list[Mirrored]:
    return [read_back(path) for path in sorted(sweep.folder.glob("runs/**/ratio=*"))]


def test_the_live_table_sees_jobs_wait_run_and_end(sweep: Swept) -> None:
    first, second = (f"ratio={ratio}" for ratio in RATIOS)
    states = [(look[first].state, look[second].state) for look in sweep.looks if len(look) == 2]
    assert list(dict.fromkeys(states))[:2] == [(WAITING, WAITING), (RUNNING, WAITING)]
    assert (DONE, RUNNING) in states
    lengths = {(row.stage, row.steps) for look in sweep.looks for row in look.values() if row.steps}
    assert lengths == set(STEPS.items())
    rows = Watch([sweep.folder]).look(time.time())
    assert [(row.folder.name, row.state) for row in rows] == [(first, DONE), (second, DONE)]
    assert all(row.psnr and row.loss and row.macs_kept and row.macs_kept < 1 for row in rows)
    assert not list(sweep.folder.glob("runs/**/state.json"))


def test_one_run_per_job_in_a_group_named_as_the_sweep(jobs: list[Mirrored]) -> None:
    assert [job.run["display_name"] for job in jobs] == [f"ratio={ratio}" for ratio in RATIOS]
    assert len({job.run["run_id"] for job in jobs}) == 2
    assert {job.run["run_group"] for job in jobs} == {jobs[0].folder.parent.name}
    assert {job.run["project"] for job in jobs} == {"vsrprune"}
    for job in jobs:
        assert job.run["job_type"] == "ssl"
        assert job.run["tags"] == ["ssl", "rsc", "basicvsr_small", "demo", "replicate 0"]
        assert job.exit_codes == [0]


def test_knobs_are_flat_so_that_a_dashboard_can_filter_by_them(jobs: list[Mirrored]) -> None:
    for job, ratio in zip(jobs, RATIOS, strict=True):
        assert job.config["ratio"] == float(ratio)
        assert job.config["rsc"] is True
        assert job.config["rule"] == "rsc"
        assert job.config["model.channels"] == 4
        assert job.config["schedule.pretrain.steps"] == 4
        assert job.config["method.name"] == "ssl"
        assert not [name for name, value in job.config.items() if isinstance(value, dict) and name != "_wandb"]
        assert not {"store_dir", "runs_dir", "launcher.name"} & set(job.config)


def test_every_run_has_the_curves_of_every_stage_against_that_stages_steps(jobs: list[Mirrored]) -> None:
    """Those of the pretraining that the second job took from the first too."""
    for job in jobs:
        rows = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
        for stage, steps in STEPS.items():
            assert sorted(job.steps(stage)) == list(range(steps))
            name = f"loss_{LOSSES[stage]}"
            written = {row["step"]: row[name] for row in rows if row["stage"] == stage}
            loss = f"{stage}/{name}"
            assert {row[f"{stage}/step"]: row[loss] for row in job.history if loss in row} == written
            assert {"glob_name": f"{stage}/*", "step_metric": f"{stage}/step"}.items() <= next(
                metric.items() for metric in job.metrics if metric.get("glob_name") == f"{stage}/*"
            )
        sparsify = next(row for row in job.history if "sparsify/lambda" in row)
        assert {"sparsify/max_cut", "sparsify/mean_cut"} <= set(sparsify)
        assert any(name.startswith("sparsify/gate/") for name in sparsify)
        assert any("finetune/loss_temporal" in row for row in job.history)


def test_the_summary_has_quality_cost_and_measured_speed(jobs: list[Mirrored]) -> None:
    for job in jobs:
        result = job.result
        measured = json.loads((job.folder / "measured.json").read_text())["latency_ms"]
        named = {{"baseline": "bicubic"}.get(name, name): quality for name, quality in result.quality.items()}
        expected = {
            **{f"psnr/{name}": quality.psnr for name, quality in named.items()},
            **{f"ssim/{name}": quality.ssim for name, quality in named.items()},
            "macs_kept": result.macs_kept,
            "units_cut": result.units_cut,
            "macs": result.cost["pruned"].macs,
            "parameters": result.cost["pruned"].parameters,
            "latency_ms": measured["pruned"]["ms"],
            "speed_up": measured["dense"]["ms"] / measured["pruned"]["ms"],
        }
        assert {name: job.summary[name] for name in expected} == pytest.approx(expected)


def test_psnr_can_be_drawn_against_macs(jobs: list[Mirrored]) -> None:
    for job in jobs:
        result = job.result
        points = [(row["tradeoff/macs_kept"], row["tradeoff/psnr"]) for row in job.history if "tradeoff/psnr" in row]
        expected = [(result.macs_kept, result.quality["finetuned"].psnr), (1.0, result.quality["dense"].psnr)]
        assert points == [pytest.approx(point) for point in expected]
        assert {"name": "tradeoff/psnr", "step_metric": "tradeoff/macs_kept"}.items() <= next(
            metric.items() for metric in job.metrics if metric.get("name") == "tradeoff/psnr"
        )


def test_the_layers_table_is_the_results(jobs: list[Mirrored]) -> None:
    for job in jobs:
        (path,) = (row["layers.path"] for row in job.history if "layers.path" in row)
        assert job.summary["layers.path"] == path
        table = json.loads((job.files / path).read_text())
        assert table["columns"] == ["layer", "part", "kind", "kept", "total", "ratio"]
        layers = job.result.layers
        assert [row[:5] for row in table["data"]] == [
            [layer.name, layer.part, layer.kind, layer.kept, layer.total] for layer in layers
        ]
        assert [row[5] for row in table["data"]] == pytest.approx([1 - item.kept / item.total for item in layers])


def test_event_files_and_csv_have_the_same_curves_and_numbers(jobs: list[Mirrored]) -> None:
    for job in jobs:
        events, table = scalars_of(job.folder), read_csv(job.folder / "tracking.csv")
        rows = [json.loads(line) for line in (job.folder / "metrics.jsonl").read_text().splitlines()]
        curves = {(row["step"], row["stage"], name): value for row in rows for name, value in row.items()
                  if name not in ("stage", "step")}  # fmt: skip
        for stage, steps in STEPS.items():
            loss = f"loss_{LOSSES[stage]}"
            assert [step for step, *key in curves if key == [stage, loss]] == list(range(steps))
            expected = [(step, pytest.approx(curves[step, stage, loss])) for step in range(steps)]
            assert events[f"{stage}/{loss}"] == expected
        assert {key: value for key, value in table.items() if key[0] is not None} == curves
        summary = summary_of(job.result, Measured.load(job.folder))
        assert {name: value for (_, stage, name), value in table.items() if stage == "summary"} == summary
        assert {name: job.summary[name] for name in summary} == pytest.approx(summary)
        tagged = {tag.removeprefix("summary/"): points for tag, points in events.items() if tag.startswith("summary/")}
        assert tagged == {name: [(0, pytest.approx(value))] for name, value in summary.items()}
        assert {"macs_with_flow", "peak_memory_mib", "hidden_error/finetuned/backward"} <= summary.keys()


def test_the_pictures_are_there(jobs: list[Mirrored]) -> None:
    for job in jobs:
        (row,) = (row for row in job.history if "crops.filenames" in row)
        captions = row["crops.captions"]
        assert captions == [f"chelsea_0: {kind}" for kind in ("lr", "bicubic", "dense", "pruned", "truth")]
        for name, caption in zip(row["crops.filenames"], captions, strict=True):
            source = job.folder / "crops" / f"{caption.replace(': ', '_')}.png"
            assert Image.open(job.files / name).tobytes() == Image.open(source).tobytes()
        (row,) = (row for row in job.history if "layers/heatmap.path" in row)
        heatmap = Image.open(job.files / row["layers/heatmap.path"])
        assert heatmap.height == 12 * len(job.result.layers)


def test_a_job_that_is_taken_up_again_leaves_one_run_with_all_curves(
    jobs: list[Mirrored], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its second stage, and then finished; the environment names a run that is none of this job's."""
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    mirrors = shutil.ignore_patterns("wandb", "events.*", "tracking.csv")
    shutil.copytree(jobs[0].folder, tmp_path / "job", ignore=mirrors)
    folder = tmp_path / "job"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for taken in (rows[:5], rows[4:]):
        run_id = lasting_run_id(folder, in_sweep=True)
        label = RunLabel("job", "sweep", "ssl", "vsrprune", run_id=run_id)
        with contextlib.suppress(KeyboardInterrupt), tracked(TO, "offline", label, {}, folder, pytest.fail) as tracker:
            for row in taken:
                tracker.row(row)
            if taken[-1] != rows[-1]:
                raise KeyboardInterrupt
            tracker.finished(jobs[0].result, folder)
    (left,) = folder.glob("wandb/offline-run-*")
    assert left.name.endswith(f"-{run_id}")
    mirrored = read_back(folder)
    assert (mirrored.run["run_id"], mirrored.exit_codes) == (run_id, [0])
    for stage, steps in STEPS.items():
        assert sorted(mirrored.steps(stage)) == list(range(steps)), stage
    assert scalars_of(folder) == scalars_of(jobs[0].folder)
    assert (folder / "tracking.csv").read_text() == (jobs[0].folder / "tracking.csv").read_text()
