"""Folders of runs as tidy tables: every number can be checked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.comparisons import difference_table, pareto_front, published_table, replicate_table
from analysis.runs import gate_table, job_table, load_runs, ratio_table, score_table
from analysis.tables import build_table
from vsrprune.errors import UserError
from vsrprune.host.failures import FailureCard
from vsrprune.results.result import RESULT, Result
from vsrprune.store.sealed import read_sealed

MakeRun = Callable[..., Path]
T_975 = {2: 4.302652729911275, 1: 12.706204736432095}  # Student's t by degrees of freedom


def test_a_job_is_a_row_with_its_knobs_and_costs(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", psnr=30.2, macs=2000, latency=1.6, seed=3)
    row = job_table(load_runs([str(tmp_path)])).iloc[0]
    assert (row["job"], row["rule"], row["seed"], row["method"]) == ("a", "rsc", 3, "ssl")
    assert row["psnr"] == 30.2
    assert row["macs_kept"] == 0.25
    assert row["speed_up"] == 2.5
    assert row["units_cut"] == 0.5
    assert row["seconds"] == 3.0


def test_labels_name_only_what_varies(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio in (0.3, 0.5):
        make_run(tmp_path, f"{ratio}", ratio=ratio, tf_weight=0.0)
    make_run(tmp_path, "aligned", rsc=False, ratio=0.3, tf_weight=0.0)
    runs = load_runs([str(tmp_path)])
    assert runs.varying == ["rule", "ratio"]
    assert [runs.label(run) for run in runs.finished] == ["aligned, ratio=0.3", "rsc, ratio=0.3", "rsc, ratio=0.5"]
    assert [runs.label(run, without=("ratio",)) for run in runs.finished] == ["aligned", "rsc", "rsc"]


def test_equal_names_in_two_sweeps_are_told_apart(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio, sweep in ((0.3, "one"), (0.5, "two")):
        make_run(tmp_path / sweep, "job", ratio=ratio)
    assert [run.name for run in load_runs([str(tmp_path)]).finished] == ["one/job", "two/job"]


def test_equal_sweeps_in_two_folders_are_told_apart(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio, folder in ((0.3, "one"), (0.5, "two")):
        make_run(tmp_path / folder / "sweep", "job", ratio=ratio)
    make_run(tmp_path, "alone", ratio=0.7)
    names = [run.name for run in load_runs([str(tmp_path)]).finished]
    assert sorted(names) == ["alone", "one/sweep/job", "two/sweep/job"]


def test_settings_that_differ_inside_a_group_have_labels_of_their_own(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "slow", schedule__finetune__lr=0.001)
    make_run(tmp_path, "fast", schedule__finetune__lr=0.01)
    runs = load_runs([str(tmp_path)])
    assert runs.varying == ["schedule.finetune.lr"]
    assert sorted(runs.label(run) for run in runs.finished) == [
        "schedule.finetune.lr=0.001",
        "schedule.finetune.lr=0.01",
    ]
    assert len(ratio_table(runs).columns) == 2


def test_values_inside_groups_of_other_names_make_no_label(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "demo")
    make_run(tmp_path, "paper", schedule={"name": "paper", "finetune": {"steps": 300000, "lr": 0.0002}})
    runs = load_runs([str(tmp_path)])
    assert runs.varying == ["schedule"]


def test_what_cannot_be_read_is_left_out_with_the_reason(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "good")
    FailureCard("sparsify", 7, "the loss is not finite", "lower lr", "python run.py").save(_folder(tmp_path / "failed"))
    (_folder(tmp_path / "running") / "state.json").write_text('{"stage": "pretrain", "step": 3}')
    (make_run(tmp_path, "torn") / "result.json").write_text('{"format": 1, "qual')
    (make_run(tmp_path, "old") / "result.json").write_text('{"format": 99}')
    (make_run(tmp_path, "no latency") / "measured.json").write_text("{}")
    (make_run(tmp_path, "list") / "result.json").write_text("[]")
    (_folder(tmp_path / "torn card") / "failure.json").write_text('{"stage": ')
    without = make_run(tmp_path, "no method") / "result.json"
    content = read_sealed(without)
    del content["knobs"]["method"]
    without.write_text(json.dumps(content))
    runs = load_runs([str(tmp_path)])
    assert [run.name for run in runs.finished] == ["good"]
    reasons = {item.name: item.reason for item in runs.left_out}
    assert reasons["failed"] == "failed in sparsify, step 7: the loss is not finite"
    assert reasons["running"] == "has no result yet"
    assert "result of format 99" in reasons["old"]
    assert all(reasons[name].startswith("cannot be read") for name in reasons.keys() - {"failed", "running"})
    assert len(reasons) == 8


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_missing_folder_is_an_error(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a")
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        load_runs([str(tmp_path), str(tmp_path / "nowhere")])


def test_the_link_to_the_last_run_counts_as_the_folder_that_it_leads_to(tmp_path: Path, make_run: MakeRun) -> None:
    runs = tmp_path / "runs"
    make_run(runs / "sweep", "a")
    make_run(runs / "sweep", "b", ratio=0.7)
    make_run(runs, "single", ratio=0.3)
    (runs / "latest").symlink_to("sweep")
    for given, names in (
        ([runs], ["single", "a", "b"]),
        ([runs / "latest"], ["a", "b"]),
        (sorted(runs.iterdir()), ["single", "a", "b"]),  # runs/*
        ([runs, runs / "latest"], ["single", "a", "b"]),
        ([runs / "single"], ["single"]),
    ):
        found = load_runs(list(map(str, given)))
        assert [run.name for run in found.finished] == names
        assert found.left_out == []
        assert not any("latest" in run.folder.parts for run in found.finished)


def test_no_result_at_all_is_an_error_that_says_why(tmp_path: Path) -> None:
    FailureCard("score", 0, "boom", "", "").save(_folder(tmp_path / "failed"))
    with pytest.raises(UserError, match=r"(?s)no result\.json below .*left out: failed: failed in score, step 0: boom"):
        load_runs([str(tmp_path)])


def test_replicates_of_a_setting_become_mean_and_interval(tmp_path: Path, make_run: MakeRun) -> None:
    for replicate, psnr in enumerate((30.0, 30.2, 30.4)):
        make_run(tmp_path, f"s{replicate}", psnr=psnr, replicate=replicate)
    make_run(tmp_path, "alone", psnr=29.0, ratio=0.7, macs=2000)
    table = replicate_table(load_runs([str(tmp_path)])).set_index("label")
    assert table.loc["ratio=0.5", "psnr"] == pytest.approx(30.2)
    assert table.loc["ratio=0.5", "half_width"] == pytest.approx(T_975[2] * 0.2 / 3**0.5)
    assert table.loc["ratio=0.5", "networks"] == 3
    assert table["half_width"].isna()["ratio=0.7"]
    assert table.loc["ratio=0.7", "macs_kept"] == 0.25


def test_the_pareto_front_has_what_no_other_beats(tmp_path: Path, make_run: MakeRun) -> None:
    points = {"a": (2000, 29.0), "b": (3000, 28.0), "c": (4000, 30.0), "d": (4000, 29.5), "e": (5000, 30.0)}
    for number, (name, (macs, psnr)) in enumerate(points.items()):
        make_run(tmp_path, name, macs=macs, psnr=psnr, min_kept=number + 1)
    front = pareto_front(replicate_table(load_runs([str(tmp_path)])), "macs_kept")
    assert list(front["psnr"]) == [29.0, 30.0]
    assert list(front["macs_kept"]) == [0.25, 0.5]


def test_differences_are_over_replicates_for_every_share_cut(tmp_path: Path, make_run: MakeRun) -> None:
    for replicate in (0, 1):
        for ratio in (0.3, 0.5):
            base = 30 - ratio + replicate  # replicates differ by 1 dB: only pairing sees the small difference
            make_run(
                tmp_path,
                f"r{replicate}{ratio}",
                psnr=base + 0.10 + 0.01 * replicate,
                ratio=ratio,
                replicate=replicate,
                macs=5000,
            )
            make_run(
                tmp_path, f"a{replicate}{ratio}", psnr=base, ratio=ratio, replicate=replicate, rsc=False, macs=4000
            )
    make_run(tmp_path, "unpaired", psnr=99.0, ratio=0.7)
    table = difference_table(load_runs([str(tmp_path)]))
    assert list(table["cut"]) == ["30 % of the units cut", "50 % of the units cut"]
    for row in table.to_dict("records"):
        assert (row["knob"], row["value"], row["reference"], row["replicates"]) == ("rule", "rsc", "aligned", 2)
        assert row["difference"] == pytest.approx(0.105)
        # 0.10 and 0.11: t = 0.105 / 0.005 = 21, p = 0.0303 alone, and 0.0606 by Holm for the two rows.
        assert row["verdict"] == "within noise"
        assert row["macs"] == pytest.approx(0.125)


def test_other_knobs_are_averaged_inside_a_replicate(tmp_path: Path, make_run: MakeRun) -> None:
    """By hand: replicate 0 gains (0.1 + 0.3) / 2, replicate 1 gains (0.2 + 0.4) / 2."""
    gains = {(0, 0.0): 0.1, (0, 1.0): 0.3, (1, 0.0): 0.2, (1, 1.0): 0.4}
    for (replicate, weight), gain in gains.items():
        for rsc in (True, False):
            name = f"{replicate}{weight}{rsc}"
            make_run(tmp_path, name, replicate=replicate, tf_weight=weight, rsc=rsc, psnr=30 + gain * rsc)
    rows = difference_table(load_runs([str(tmp_path)])).set_index("knob")
    assert rows.loc["rule", "replicates"] == 2
    assert rows.loc["rule", "difference"] == pytest.approx(0.25)
    assert rows.loc["rule", "half_width"] == pytest.approx(T_975[1] * 0.05)


def test_one_dense_network_has_no_verdict(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "global")
    make_run(tmp_path, "local", scope="local", psnr=29.0)
    (row,) = difference_table(load_runs([str(tmp_path)])).to_dict("records")
    assert (row["verdict"], row["replicates"]) == ("one dense network", 1)


def test_ratios_are_shares_cut_in_network_order(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "half", ratio=0.5)
    make_run(tmp_path, "quarter", ratio=0.25)
    table = ratio_table(load_runs([str(tmp_path)]))
    assert [index[2] for index in table.index] == ["backward.conv1", "forward.conv1", "fusion"]
    assert list(table.columns) == ["ratio=0.25", "ratio=0.5"]
    assert table["ratio=0.25"].tolist() == [0.25, 0.25, 0.25]


def test_settings_that_share_their_plans_are_one_column(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio in (0.25, 0.5):
        for weight in (0.0, 1.0):
            folder = make_run(tmp_path, f"{ratio}-{weight}", ratio=ratio, tf_weight=weight)
            values = read_sealed(folder / RESULT)
            values["stages"]["select"] = f"of ratio {ratio}"  # as the real stage's key: tf_weight comes after it
            (folder / RESULT).write_text(json.dumps(values))
    assert list(ratio_table(load_runs([str(tmp_path)])).columns) == ["ratio=0.25", "ratio=0.5"]


def test_a_layer_of_one_rule_stands_after_the_one_before_it(tmp_path: Path, make_run: MakeRun) -> None:
    names = {"rsc": ["in", "mid", "out", "other.in", "up"], "aligned": ["stream", "mid", "other.stream", "up"]}
    for rule, layers in names.items():
        folder = make_run(tmp_path, rule, rsc=rule == "rsc")
        values = read_sealed(folder / RESULT)
        parts = {"up": "upsampler", "other.in": "forward", "other.stream": "forward"}
        values["layers"] = [
            {"name": name, "part": parts.get(name, "backward"), "kind": "middle", "kept": 1, "total": 2}
            for name in layers
        ]
        (folder / RESULT).write_text(json.dumps(values))
    layers = [index[2] for index in ratio_table(load_runs([str(tmp_path)])).index]
    assert layers == ["stream", "in", "mid", "out", "other.stream", "other.in", "up"]


def test_scores_know_which_units_are_kept(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", ratio=0.25)
    (run,) = load_runs([str(tmp_path)]).finished
    table = score_table(run)
    assert len(table) == 40
    assert table.groupby("layer", sort=False)["kept"].sum().tolist() == [12, 12, 6]
    assert table[table["layer"] == "fusion"]["score"].tolist() == [unit / 8 for unit in range(8)]


def test_gates_come_from_the_curves(tmp_path: Path, make_run: MakeRun) -> None:
    job = make_run(tmp_path, "a")
    rows = [
        {"stage": "pretrain", "step": 1, "loss": 1.0},
        {"stage": "sparsify", "step": 1, "lambda": 0.1, "gate/fusion": 0.9},
        {"stage": "sparsify", "step": 2, "lambda": 0.2, "gate/fusion": 0.5},
    ]
    (job / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = load_runs([str(tmp_path)]).finished
    table = gate_table(run)
    assert table[["step", "gate", "lambda", "part"]].to_numpy().tolist() == [
        [1, 0.9, 0.1, "fusion"],
        [2, 0.5, 0.2, "fusion"],
    ]
    (job / "metrics.jsonl").unlink()
    assert gate_table(load_runs([str(tmp_path)]).finished[0]).empty


def test_published_points_appear_only_beside_runs_on_the_same_clips(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "demo", "a")
    assert published_table(load_runs([str(tmp_path / "demo")])).empty
    make_run(tmp_path / "reds", "a", data__name="reds4", data__channel="rgb")
    table = published_table(load_runs([str(tmp_path / "reds")])).set_index("method")
    assert table.loc["BasicVSR", "psnr"] == 31.42
    assert table.loc["BasicVSR", "macs_kept"] == 1.0
    assert table.loc["SSL-bi", "macs_kept"] == pytest.approx(92.1 / 337.8)


def test_published_points_are_of_the_same_kind_of_frames(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "bi", "a", data__name="vid4")
    make_run(tmp_path / "bd", "a", data__name="vid4", data__low="bd")
    make_run(tmp_path / "blur", "a", data__name="vid4", data__degradation="bd_duf")
    psnr = {
        name: published_table(load_runs([str(tmp_path / name)])).set_index("method").loc["SSL-bi", "psnr"]
        for name in ("bi", "bd", "blur")
    }
    assert psnr == {"bi": 27.15, "bd": 27.56, "blur": 27.56}
    assert published_table(load_runs([str(tmp_path)])).empty  # runs of both kinds have no common rows
    make_run(tmp_path / "udm10", "a", data__name="udm10")
    assert published_table(load_runs([str(tmp_path / "udm10")])).empty  # published of blurred frames alone


def test_what_differs_along_with_a_method_is_named_and_parts_nothing(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "ssl")
    make_run(tmp_path, "l1", method__name="l1", rsc=False, tf_weight=0.0, psnr=29.0)
    runs = load_runs([str(tmp_path)])
    assert (runs.axes, runs.following) == (["method"], ["rule", "tf_weight"])
    assert [runs.label(run) for run in runs.finished] == ["ssl, rsc, tf_weight=1", "l1, aligned, tf_weight=0"]
    (row,) = difference_table(runs).to_dict("records")
    assert (row["knob"], row["value"], row["difference"]) == ("method", "l1, aligned, tf_weight=0", -1.0)
    make_run(tmp_path, "ssl_aligned", rsc=False)
    assert load_runs([str(tmp_path)]).axes == ["method", "rule"]


def test_a_label_names_what_is_inside_a_method_whatever_the_method(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "ssl")
    make_run(tmp_path, "l1", method={"name": "l1", "sparsify": False}, psnr=29.0)
    runs = load_runs([str(tmp_path)])
    assert (runs.axes, runs.following) == (["method"], ["method.sparsify"])
    # What goes along with the method's name is said where it is not the default.
    assert [runs.label(run) for run in runs.finished] == ["ssl", "l1, method.sparsify=false"]
    (row,) = difference_table(runs).to_dict("records")
    assert (row["knob"], row["reference"], row["value"]) == ("method", "ssl", "l1, method.sparsify=false")
    # Where it differs within a method it is an axis of its own, and both values are said.
    make_run(tmp_path, "ssl one shot", method__sparsify=False)
    runs = load_runs([str(tmp_path)])
    assert runs.axes == ["method", "method.sparsify"]
    assert {run.name: runs.label(run) for run in runs.finished} == {
        "ssl": "ssl, method.sparsify=true",
        "ssl one shot": "ssl, method.sparsify=false",
        "l1": "l1, method.sparsify=false",
    }


def test_a_label_leaves_out_what_the_method_does_not_read(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "best", method__name="best", score="taylor", rank="per_mac")
    lite = {"name": "lite", "sparsify": False}
    make_run(tmp_path, "lite", method=lite, rsc=False, scope="local")
    make_run(tmp_path, "whole", method={"name": "dense", "sparsify": False})
    runs = load_runs([str(tmp_path)])
    assert {run.name: runs.label(run) for run in runs.finished} == {
        "best": "best, rsc, global, score=taylor, rank=per_mac",
        "lite": "lite, aligned, local",
        "whole": "dense, trained on",
    }


def test_cuts_stand_in_the_order_of_their_numbers(tmp_path: Path, make_run: MakeRun) -> None:
    for ratio in (0.05, 0.3, 0.1):
        make_run(tmp_path, str(ratio), ratio=ratio)
    for ms in (5.0, 33.0):
        make_run(tmp_path, str(ms), target="latency", target_ms=ms)
    runs = load_runs([str(tmp_path)])
    assert runs.axes == ["target", "ratio", "target_ms"]
    table = build_table(runs, "main")
    assert table.columns == [
        "within 33 ms",
        "within 5 ms",
        "5 % of the units cut",
        "10 % of the units cut",
        "30 % of the units cut",
    ]
    assert len(table.rows) == 1


def test_a_control_that_cuts_nothing_stands_beside_every_cut(tmp_path: Path, make_run: MakeRun) -> None:
    best = {"method__name": "best", "target": "macs", "score": "taylor"}
    for ratio in (0.3, 0.5):
        make_run(tmp_path, f"best{ratio}", ratio=ratio, psnr=30 - ratio, **best)
    # `best` counts MACs, and the control was asked for nothing: it has the target of the defaults.
    make_run(tmp_path, "whole", method={"name": "dense", "sparsify": False}, psnr=31)
    runs = load_runs([str(tmp_path)])
    table = build_table(runs, "method")
    assert table.columns == ["30 % of the MACs cut", "50 % of the MACs cut"]
    assert {name.split(",")[0]: [cell.psnr.mean for cell in cells if cell] for _, name, cells in table.rows} == {
        "best": [29.7, 29.5],
        "dense": [31.0, 31.0],
    }
    rows = difference_table(runs).to_dict("records")
    assert [(row["cut"], round(row["difference"], 6)) for row in rows if row["knob"] == "method"] == [
        ("30 % of the MACs cut", 1.3),
        ("50 % of the MACs cut", 1.5),
    ]
    assert build_table(load_runs([str(tmp_path)]), "main").columns == table.columns


def test_a_knob_that_only_some_jobs_have_tells_them_apart_and_is_named_where_it_is(
    tmp_path: Path, make_run: MakeRun
) -> None:
    make_run(tmp_path, "without")
    make_run(tmp_path, "with", model__kernel=5, rounds=2)
    runs = load_runs([str(tmp_path)])
    assert runs.varying == ["rounds", "model.kernel"]
    assert {run.name: runs.label(run) for run in runs.finished} == {
        "without": "rounds=1",
        "with": "rounds=2, model.kernel=5",
    }


def test_given_ratios_are_told_apart_by_a_word(tmp_path: Path, make_run: MakeRun) -> None:
    for name, ratios in (("a", {"fusion": 0.25}), ("b", {"fusion": 0.5}), ("none", None)):
        make_run(tmp_path, name, ratios=ratios)
    runs = load_runs([str(tmp_path)])
    assert runs.varying == ["ratios"]
    labels = [runs.label(run) for run in runs.finished]
    assert len(set(labels)) == 3
    assert all(len(label) <= len("ratios=012345") for label in labels)


@pytest.mark.parametrize("knob", [{"scope": "local"}, {"rsc": False}, {"score": "gate"}, {"tf_weight": 0.0}])
def test_labels_show_what_differs_among_jobs_of_the_same_method(
    tmp_path: Path, make_run: MakeRun, knob: dict[str, object]
) -> None:
    """Its name alone says what its file sets, until a job of that method changes it."""
    l1 = {"method": {"name": "l1", "sparsify": False}, "score": "l1_first"}
    make_run(tmp_path, "ssl")
    make_run(tmp_path, "l1", **l1)
    make_run(tmp_path, "changed", **{**l1, **knob})
    runs = load_runs([str(tmp_path)])
    assert len({runs.label(run) for run in runs.finished}) == 3
    assert len(runs.axes) == 2


def test_a_knob_that_no_table_knows_tells_jobs_apart(tmp_path: Path, make_run: MakeRun) -> None:
    """Such as two dense networks from files: they had one label, and one row, before."""
    for name in ("one", "two"):
        make_run(tmp_path, name, pretrained=f"{name}.pth")
    runs = load_runs([str(tmp_path)])
    assert [runs.label(run) for run in runs.finished] == ["pretrained=one.pth", "pretrained=two.pth"]


def test_the_same_run_found_twice_counts_once(tmp_path: Path, make_run: MakeRun) -> None:
    for folder in ("today", "yesterday"):
        make_run(tmp_path / folder, "job", psnr=30.0)
    # A network from a file: two seeds of a dense network that nothing trains.
    for seed in (0, 1):
        path = make_run(tmp_path, f"file{seed}", ratio=0.7, pretrain_seed=seed) / RESULT
        values = read_sealed(path)
        values["stages"] = dict.fromkeys(values["stages"], "the same")
        path.write_text(json.dumps(values))
    runs = load_runs([str(tmp_path)])
    assert [run.name for run in runs.finished] == ["today/job", "file0"]
    assert {item.name: item.reason for item in runs.left_out} == {
        "yesterday/job": "the same run as today/job, counted once",
        "file1": "the same run as file0, counted once",
    }
    table = replicate_table(runs)
    assert list(table["runs"]) == [1, 1]
    assert table["half_width"].isna().all()


def test_a_method_without_scores_has_no_rows_of_them(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run(tmp_path, "lite")
    replace(Result.load(folder), scores=None).save(folder)
    table = score_table(load_runs([str(tmp_path)]).finished[0])
    assert table.empty
    assert list(table.columns) == ["part", "kind", "layer", "score", "kept"]


def test_controls_are_named_in_words(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "ssl")
    make_run(tmp_path, "chance", units="random")
    make_run(tmp_path, "whole", method__name="dense", tf_weight=0.0)
    runs = load_runs([str(tmp_path)])
    assert [runs.label(run) for run in runs.finished] == [
        "ssl, units=ranked, tf_weight=1",
        "ssl, same counts, random units, tf_weight=1",
        "dense, trained on, units=ranked, tf_weight=0",
    ]
