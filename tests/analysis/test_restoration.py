"""Runs of tasks at scale 1 beside those of super-resolution: what outputs are compared with has its own name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.comparisons import difference_table, published_table, replicate_table
from analysis.figures import FIGURES, chosen_run
from analysis.groups import grouped
from analysis.quality import Panel, draw_quality
from analysis.report import report_page
from analysis.report_data import MEASURES, crop_table, measure_label, reference_table
from analysis.runs import Runs, load_runs
from analysis.tables import build_table

MakeRun = Callable[..., Path]
SCALE_1 = {"model__upscale_factors": [], "task": {"name": "denoise", "sigma": 25.0}}


@pytest.fixture
def restoring(tmp_path: Path, make_run: MakeRun) -> Runs:
    for ratio in (0.3, 0.5):
        crops = make_run(tmp_path, f"denoise{ratio}", ratio=ratio, psnr=31 - ratio, **SCALE_1) / "crops"
        (crops / "the_walk_bicubic.png").rename(crops / "the_walk_input.png")
        (crops / "the_walk_lr.png").unlink()
    return load_runs([str(tmp_path)])


def test_no_label_says_bicubic(restoring: Runs, tmp_path: Path) -> None:
    assert {run.result.baseline_name for run in restoring.finished} == {"input"}
    labels = [measure_label(item, restoring) for item in MEASURES]
    assert "PSNR input" in labels
    assert "gain over input" in labels
    table = replicate_table(restoring)
    (axes,) = draw_quality([Panel(table, table, table.iloc[:0], 31.0)], "macs_kept", "MACs").axes
    assert [text.get_text() for text in axes.texts] == ["input: 28.00 dB, below"]
    assert list(crop_table(restoring.finished[0], most=1)["kind"]) == ["input", "dense", "pruned", "truth"]
    crops = FIGURES["qualitative"](restoring, chosen_run(restoring, "")).axes
    assert [axes.get_xlabel().split("\n")[0] for axes in crops][1:3] == ["input", "dense"]
    page = report_page([str(tmp_path)])
    assert "dashed line input" in page
    assert "gain over input" in page
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert [(row["name"], row["baseline"]) for row in data["references"]] == [("tiny, demo, denoise", "input")]
    assert "(task=denoise, task.sigma=25)" in build_table(restoring, "main").note


def test_tasks_are_settings_of_their_own_and_no_ablation(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "sr")
    make_run(tmp_path, "denoise", **SCALE_1)
    make_run(tmp_path, "strong", **{**SCALE_1, "task": {"name": "denoise", "sigma": 50.0}})
    make_run(tmp_path, "deblur", model__upscale_factors=[], task={"name": "deblur", "blur_frames": 7})
    runs = load_runs([str(tmp_path)])
    assert runs.varying == ["task", "task.sigma"]
    assert [runs.label(run, without=["task.sigma"]) for run in runs.finished] == ["sr", "denoise", "denoise", "deblur"]
    assert difference_table(runs).empty
    references = reference_table(grouped(runs))
    assert list(references["baseline"]) == ["bicubic", "input", "input", "input"]
    assert list(references["group"]) == [0, 1, 2, 3]  # noise of another strength is another input


def test_results_from_before_there_were_tasks_are_of_super_resolution(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "old", seed=0)
    make_run(tmp_path, "new", seed=1, task={"name": "sr"})
    runs = load_runs([str(tmp_path)])
    assert runs.varying == []
    assert list(replicate_table(runs)["runs"]) == [2]


@pytest.mark.parametrize(("factors", "shown"), [([2, 2], True), ([4], True), ([2], False), ([], False)])
def test_published_rows_are_of_a_scale_of_four(
    factors: list[int], shown: bool, tmp_path: Path, make_run: MakeRun
) -> None:
    make_run(tmp_path, "job", model__upscale_factors=factors, data__name="vid4")
    assert published_table(load_runs([str(tmp_path)])).empty != shown
