"""Tables over frames and over how much is cut: what pruning costs there, which jobs are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.over_time import cut_table, frame_table, hidden_table
from analysis.runs import load_runs
from vsrprune.results.result import RESULT, HiddenError, Result
from vsrprune.store.sealed import read_sealed

MakeRun = Callable[..., Path]


def test_frames_show_what_pruning_costs_there(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", psnr=30.0)  # dense: 31; frames 1 dB below and above the mean
    rows = frame_table(load_runs([str(tmp_path)]))
    assert list(rows["frame"]) == [0, 1]
    assert list(rows["psnr_gap"]) == [1.0, 1.0]
    assert list(rows["clips"]) == [1, 1]


def test_frames_compare_temporal_weights_on_the_same_pruned_network(tmp_path: Path, make_run: MakeRun) -> None:
    for name, pruned, weight in (("a", "p", 0.0), ("b", "p", 1.0), ("c", "q", 1.0)):
        result = make_run(tmp_path, name) / RESULT
        values = read_sealed(result)
        values["stages"]["prune"] = pruned
        values["knobs"]["tf_weight"] = weight
        result.write_text(json.dumps(values))
    runs = load_runs([str(tmp_path)])
    rows, errors = frame_table(runs), hidden_table(runs)
    names = {"a": "without temporal fine-tuning", "b": "tf_weight=1"}
    assert dict(zip(rows["job"], rows["series"], strict=True)) == names
    tuned = errors[errors["point"] == "finetuned"]
    assert dict(zip(tuned["job"], tuned["series"], strict=True)) == names
    after_cut = errors[errors["point"] == "after_cut"]  # which both share
    assert set(after_cut["job"]) == {"a"}
    assert len(after_cut) == len(tuned) / 2 == 4


def test_errors_have_a_row_per_point_branch_and_frame(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio in (0.5, 0.25):
        make_run(tmp_path, str(ratio), ratio=ratio)
    table = hidden_table(load_runs([str(tmp_path)]))
    assert list(dict.fromkeys(table["series"])) == ["25 % of the units cut", "50 % of the units cut"]
    rows = table[table["job"] == "0.5"].set_index(["point", "branch", "frame"])
    assert len(rows) == 8
    assert rows.loc[("after_cut", "backward", 0), ["total", "made_here", "propagated"]].tolist() == [0.5, 0.2, 0.4]
    assert rows.loc[("finetuned", "forward", 1), ["total", "made_here", "propagated"]].tolist() == [0.4, 0.2, 0.3]


def test_settings_at_one_cut_are_series_of_their_own(tmp_path: Path, make_run: MakeRun) -> None:
    for name, scope in (("a", "global"), ("b", "local")):
        make_run(tmp_path, name, scope=scope)
    runs = load_runs([str(tmp_path)])
    for table in (frame_table(runs), hidden_table(runs)):
        assert set(table["series"]) == {"50 % of the units cut, global", "50 % of the units cut, local"}


def test_errors_by_cut_are_means_over_frames_branches_and_replicates(tmp_path: Path, make_run: MakeRun) -> None:
    for replicate, macs in ((0, 4000), (1, 4000), (0, 6000)):
        make_run(tmp_path, f"{replicate}{macs}", replicate=replicate, macs=macs, ratio=1 - macs / 8000)
    result = Result.load(tmp_path / "14000")
    worse = HiddenError([0.9, 0.7], [0.5, 0.4], [0.2, 0.1])
    errors = {**result.hidden_error, "finetuned": {"backward": worse, "forward": worse}}
    replace(result, hidden_error=errors).save(tmp_path / "14000")
    rows = cut_table(load_runs([str(tmp_path)])).set_index(["cut", "point"])
    assert len(rows) == 4
    assert rows.loc[(0.5, "finetuned"), "total"] == pytest.approx((0.25 + 0.8) / 2)
    assert rows.loc[(0.5, "finetuned"), "made_here"] == pytest.approx((0.1875 + 0.45) / 2)
    assert rows.loc[(0.25, "finetuned"), "propagated"] == pytest.approx(0.105)
    assert rows.loc[(0.25, "after_cut"), "total"] == pytest.approx(0.45)


def test_replicates_whose_plans_cut_different_shares_are_one_point(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio, replicate, macs in ((0.5, 0, 4000), (0.5, 1, 4400), (0.3, 0, 6000), (0.3, 1, 6400)):
        make_run(tmp_path, f"{ratio}{replicate}", ratio=ratio, replicate=replicate, macs=macs)
    table = cut_table(load_runs([str(tmp_path)]))
    assert list(table["point"]) == ["after_cut", "finetuned"] * 2
    assert list(table["cut"]) == pytest.approx([0.225, 0.225, 0.475, 0.475])


def test_parts_that_are_not_known_are_missing(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run(tmp_path, "own")
    errors = {point: {"state": HiddenError([0.5], None, None)} for point in ("after_cut", "finetuned")}
    replace(Result.load(folder), hidden_error=errors).save(folder)
    runs = load_runs([str(tmp_path)])
    for table in (hidden_table(runs), cut_table(runs)):
        assert table[["made_here", "propagated"]].isna().all(axis=None)
        assert list(table["total"]) == [0.5, 0.5]


def test_errors_over_frames_leave_out_jobs_without_hidden_states_to_compare(tmp_path: Path, make_run: MakeRun) -> None:
    """Two jobs from scratch share their stage `prune` and differ in tf_weight: that alone makes no pair to compare."""
    make_run(tmp_path, "cut")
    for tf_weight in (0.0, 1.0):
        folder = make_run(tmp_path, f"scratch{tf_weight}", tf_weight=tf_weight, ratio=0.3)
        result = Result.load(folder)
        replace(result, hidden_error={}, stages={**result.stages, "prune": "fedcba9876543210"}).save(folder)
    runs = load_runs([str(tmp_path)])
    assert set(frame_table(runs)["job"]) == set(hidden_table(runs)["job"]) == {"cut"}
    assert len(cut_table(runs)) == 2
