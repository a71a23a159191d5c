"""The mirror to Weights & Biases never costs a job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image

from vsrprune.host.tracking import (
    BRIGHT,
    CELL_HEIGHT,
    CUT,
    DARK,
    WandbTracker,
    crop_files,
    layer_heatmap,
    summary_of,
    tracked,
)
from vsrprune.results.result import Cost, Layer, Quality, Result

KINDS = ("lr", "bicubic", "dense", "pruned", "truth", "frame")


class BrokenRun:
    """A wandb run whose `log` fails."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append("define_metric")

    def log(self, values: Any) -> None:
        self.calls.append("log")
        raise ConnectionError("the service process is gone\nand more")

    def finish(self, exit_code: int) -> None:
        self.calls.append("finish")


def test_a_broken_run_is_said_once_and_left_alone() -> None:
    run, said = BrokenRun(), []
    tracker = WandbTracker(run, said.append)
    for step in range(3):
        tracker.row({"stage": "pretrain", "step": step, "loss": 1.0})
    tracker.close(failed=False)
    assert said == ["tracking: wandb stopped working (the service process is gone); going on without it"]
    assert run.calls.count("log") == 1
    assert "finish" not in run.calls


@pytest.mark.parametrize("failed", [True, False])
def test_the_exit_code_is_handed_on(failed: bool) -> None:
    codes: list[int] = []

    class Run:
        def finish(self, exit_code: int) -> None:
            codes.append(exit_code)

    WandbTracker(Run(), pytest.fail).close(failed)
    assert codes == [int(failed)]


def small_result() -> Result:
    psnr = {"bicubic": 20.0, "dense": 30.0, "before_cut": 29.5, "after_cut": 25.0, "finetuned": 29.0}
    return Result(
        knobs={},
        rule="rsc",
        quality={name: Quality(value, value / 100, {}, {}) for name, value in psnr.items()},
        cost={"dense": Cost(100, 110, 1000, 1100, (180, 320)), "pruned": Cost(60, 70, 500, 600, (180, 320))},
        layers=[Layer("trunk.conv1", "trunk", "filter", 2, 4), Layer("tail", "tail", "input", 2, 2)],
        budget={},
        gates={},
        equivalence={"float64": 1e-15},
        hidden_error={},
        scores={"trunk.conv1": [0.0, 1.0, 2.0, 4.0], "tail": [0.0, 0.0]},
        plan={"groups": {"trunk.conv1": {"kept": [2, 3]}, "tail": {"kept": [0, 1]}}},
        stages={},
        notes=[],
    )


MEASURED = {"latency_ms": {"dense": {"ms": 12.0}, "pruned": {"ms": 8.0}}}


def test_the_summary_says_what_dashboards_plot() -> None:
    values = summary_of(small_result(), MEASURED)
    assert values["psnr/finetuned"] == 29.0
    assert values["psnr/lost"] == 1.0
    assert (values["macs_kept"], values["macs"], values["parameters"], values["parameters_kept"]) == (0.5, 500, 60, 0.6)
    assert values["units_cut"] == pytest.approx(1 / 3)
    assert (values["latency_ms"], values["latency_ms_dense"], values["speed_up"]) == (8.0, 12.0, 1.5)


def test_the_summary_holds_temporal_consistency_where_it_was_measured() -> None:
    result = small_result()
    assert not [name for name in summary_of(result, {}) if name.startswith(("tof", "warping_error"))]
    result.quality["finetuned"] = replace(result.quality["finetuned"], tof=0.25, warping_error=0.001)
    values = summary_of(result, {})
    assert (values["tof/finetuned"], values["warping_error/finetuned"]) == (0.25, 0.001)
    assert "tof/dense" not in values


def test_a_job_that_was_not_measured_has_no_latency_in_its_summary() -> None:
    assert not {"latency_ms", "speed_up"} & set(summary_of(small_result(), {}))


def test_the_heatmap_shows_what_is_cut_and_what_is_important() -> None:
    image = layer_heatmap(small_result())
    assert image.height == 2 * CELL_HEIGHT
    cells = image.crop((image.width - 4 * CELL_HEIGHT, 0, image.width, image.height))
    middles = [(unit + 0.5) * CELL_HEIGHT for unit in range(4)]
    colours = [[cells.getpixel((int(x), int(y))) for x in middles] for y in middles[:2]]
    halfway = tuple((bright + dark) // 2 for bright, dark in zip(BRIGHT, DARK, strict=True))
    assert colours[0] == [CUT, CUT, halfway, DARK]
    assert colours[1] == [BRIGHT, BRIGHT, (255, 255, 255), (255, 255, 255)]


def test_crops_of_a_few_clips_stand_side_by_side(tmp_path: Path) -> None:
    clips = [f"clip_{number}" for number in range(6)]
    (tmp_path / "places.json").write_text(json.dumps([{"clip": clip} for clip in clips]))
    for clip in clips:
        for kind in KINDS:
            Image.new("RGB", (4, 4)).save(tmp_path / f"{clip}_{kind}.png")
    assert list(crop_files(tmp_path)) == [f"{clip}: {kind}" for clip in clips[:4] for kind in KINDS[:-1]]
    (tmp_path / "clip_0_dense.png").unlink()
    assert "clip_0: dense" not in crop_files(tmp_path)


def test_a_job_without_crops_has_none(tmp_path: Path) -> None:
    assert crop_files(tmp_path / "crops") == {}


class RecordingRun:
    """A wandb run that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def define_metric(self, *args: Any, **kwargs: Any) -> None: ...

    def log(self, values: dict[str, Any]) -> None:
        self.rows.append(values)

    def finish(self, exit_code: int) -> None: ...


def test_stages_that_were_reused_have_their_curves_too(tmp_path: Path) -> None:
    rows = [{"stage": stage, "step": step, "loss": 1.0} for stage in ("pretrain", "finetune") for step in range(2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RecordingRun()
    tracker = WandbTracker(run, pytest.fail)
    for row in rows[2:]:
        tracker.row(row)
    tracker.finished(small_result(), tmp_path)
    steps = {
        stage: [row[f"{stage}/step"] for row in run.rows if f"{stage}/step" in row]
        for stage in ("pretrain", "finetune")
    }
    assert steps == {"pretrain": [0, 1], "finetune": [0, 1]}
    assert run.summary["macs_kept"] == 0.5


def test_damaged_files_beside_the_result_cost_no_job(tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_text('{"latency_ms": ')
    said: list[str] = []
    WandbTracker(RecordingRun(), said.append).finished(small_result(), tmp_path)
    assert len(said) == 1


def test_what_a_run_is_started_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []

    def init(**options: Any) -> RecordingRun:
        started.append(options)
        return RecordingRun()

    monkeypatch.setattr(wandb, "init", init)
    with tracked(
        "offline",
        project="vsrprune",
        entity="",
        name="job",
        group="sweep",
        method="ssl",
        tags=("ssl", "x" * 99, "ssl", ""),
        config={"ratio": 0.5, "model": {"channels": 16}, "ratios": {"a.conv": 0.1}},
        folder=tmp_path,
        warn=pytest.fail,
    ):
        pass
    (options,) = started
    assert options["config"] == {"ratio": 0.5, "model.channels": 16, "ratios": {"a.conv": 0.1}}
    assert options["tags"] == ["ssl", "x" * 64]
    assert (options["group"], options["job_type"], options["name"]) == ("sweep", "ssl", "job")
