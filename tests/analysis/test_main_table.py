"""The main table: every column by hand, its choice, its units and what is not known."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.escaping import MISSING
from analysis.main_table import MAIN_COLUMNS, MainTable, main_csv, main_latex, main_markdown, main_table
from analysis.runs import load_runs
from analysis.tables import build_table, main, settings_compared
from vsrprune.results.measured import Measured
from vsrprune.results.result import Cost, Result

MakeRun = Callable[..., Path]


def table_of(folder: Path, *columns: str) -> MainTable:
    runs = load_runs([str(folder)])
    return main_table(build_table(runs, "main"), settings_compared(runs, "main"), runs, columns, "val")


@pytest.fixture
def job(tmp_path: Path, make_run: MakeRun) -> Path:
    """A quarter of 3.2 G MACs, in 5 ms of 16; tOF 1.5 pixels, 100 of 250 MiB."""
    job = make_run(tmp_path / "runs", "a", psnr=30.0)
    result, measured = Result.load(job), Measured.load(job)
    counts = {"dense": (4_900_000, 3_200_000_000), "pruned": (1_225_000, 800_000_000)}
    cost = {name: Cost(parameters, 0, macs, 0, (180, 320)) for name, (parameters, macs) in counts.items()}
    tuned = replace(result.quality["finetuned"], tof=1.5)
    replace(result, cost=cost, quality={**result.quality, "finetuned": tuned}).save(job)
    times = {name: replace(measured.latency_ms[name], ms=ms, ms_without_flow=without)
             for name, ms, without in (("dense", 16.0, 12.0), ("pruned", 5.0, 4.0))}  # fmt: skip
    replace(measured, latency_ms=times, peak_memory_mib={"dense": 250.0, "pruned": 100.0}).save(job)
    return job


def test_every_column_by_hand(job: Path) -> None:
    """Quotient: four times fewer MACs, three times faster without the flow net."""
    table = table_of(job.parent)
    assert table.columns == list(MAIN_COLUMNS)
    baseline, dense, row = table.rows
    assert [(of.group, of.name) for of in table.rows] == [
        ("", "bicubic"), ("", "dense"), ("50 % of the units cut", "rsc"),
    ]  # fmt: skip
    assert row.values == pytest.approx(
        {"psnr": 30.0, "ssim": 0.8, "tof": 1.5, "macs": 8e8, "macs_kept": 25.0, "parameters": 1_225_000, "ms": 5.0,
         "fps": 200.0, "speed_up": 3.2, "speed_up_without_flow": 3.0,
 "quotient": 4 / 3, "memory": 100.0}
    )  # fmt: skip
    assert dense.values["speed_up"] == dense.values["quotient"] == 1.0
    assert math.isnan(dense.values["tof"])
    assert math.isnan(baseline.values["macs"])
    text = main_markdown(table).replace(MISSING, "-")
    assert "| PSNR (dB) | SSIM | tOF (px) | MACs (G) | MACs kept (%) | parameters (M) | ms | frames/s |" in text
    assert "| dense | 31.000 | 0.8000 | - | 3.20 | 100.0 | 4.90 | 16.00 | 62.5 | 1.00 | 1.00 | 1.00 | 250 |" in text
    assert "| rsc | 30.000 | 0.8000 | 1.500 | 0.80 | 25.0 | 1.23 | 5.00 | 200.0 | 3.20 | 3.00 | 1.33 | 100 |" in text
    assert "| bicubic | 28.000 | 0.8000 | - | - | - | - | - | - | - | - | - | - |" in text


def test_the_dense_network_has_no_quality_where_it_stands_in_for_the_truth(tmp_path: Path, make_run: MakeRun) -> None:
    """Compared with itself it would have 100 dB, which is no number beside the others."""
    job = make_run(tmp_path / "runs", "a", psnr=30.0, dense=100.0, data__truth="none")
    table = table_of(job.parent, "psnr", "ssim", "ms")
    text = main_markdown(table).replace(MISSING, "-")
    assert "| dense | - | - | 4.00 |" in text
    assert "| rsc | 30.000 | 0.8000 | 2.00 |" in text


def test_columns_are_those_that_are_asked_for_or_all_that_were_measured(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a")
    assert table_of(tmp_path, "ms", "psnr").columns == ["psnr", "ms"]
    table = table_of(tmp_path)
    assert not {"tof", "memory"} & set(table.columns)
    assert "Not measured: tOF (px), peak memory (MiB)." in table.note
    assert "tof" in table_of(tmp_path, "tof").columns


def test_wrong_columns_are_one_line(tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "a")
    for given, said in (
        (["main", "--columns", "psnr", "psrn"], f"--columns must be of {', '.join(MAIN_COLUMNS)}; got 'psrn'"),
        (["rule", "--columns", "psnr"], "--columns is of --table main alone; got --table rule: leave --columns out"),
    ):
        with pytest.raises(SystemExit, match=r"^2$"):
            main([str(tmp_path), "--table", *given])
        assert capsys.readouterr().err == f"error: {said}\n"


def test_all_formats_hold_the_same_numbers(job: Path) -> None:
    table = table_of(job.parent)
    rows = list(csv.DictReader(io.StringIO(main_csv(table, "demo"))))
    assert [row["setting"] for row in rows] == ["bicubic", "dense", "rsc"]
    assert {row["group"] for row in rows} == {"demo"}
    assert (rows[0]["macs"], float(rows[2]["macs"]), float(rows[2]["quotient"])) == ("", 8e8, pytest.approx(4 / 3))
    text = main_latex(table)
    assert r"rsc & 30.000 & 0.8000 & 1.500 & 0.80 & 25.0 & 1.23 & 5.00 & 200.0 & 3.20 & 3.00 & 1.33 & 100 \\" in text
    assert r"bicubic & 28.000 & 0.8000 & -- & -- &" in text
    assert text.count("{") == text.count("}")


def test_numbers_are_means_over_dense_networks(tmp_path: Path, make_run: MakeRun) -> None:
    """By hand: one network has runs of 2 and 4 ms, the other of 6 ms: (3 + 6) / 2."""
    for name, replicate, seed, latency in (("a", 0, 0, 2.0), ("b", 0, 1, 4.0), ("c", 1, 0, 6.0)):
        make_run(tmp_path, name, replicate=replicate, seed=seed, latency=latency)
    assert table_of(tmp_path).rows[-1].values["ms"] == pytest.approx(4.5)


def test_milliseconds_say_what_disturbs_them(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a")
    measured = Measured.load(make_run(tmp_path, "b", ratio=0.7))
    slow = {**measured.latency_ms, "dense": replace(measured.latency_ms["dense"], ms=5.0)}
    replace(measured, latency_ms=slow).save(tmp_path / "b")
    assert "Note: the dense network took 4 to 5 ms per frame, 25% apart" in table_of(tmp_path).note
    assert "Note:" not in table_of(tmp_path, "psnr", "speed_up").note


def test_published_rows_stand_below_with_what_is_known_of_them(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", data__name="vid4")
    rows = {row.name: row for row in table_of(tmp_path).rows if row.group == "published"}
    assert rows["SSL-bi"].values["ssim"] == 0.8208
    assert rows["SSL-bi"].values["parameters"] == 1e6
    assert rows["SSL-bi"].values["macs_kept"] == pytest.approx(100 * 92.1 / 337.8)
    assert math.isnan(rows["SSL-bi"].values["ms"])


def test_what_comes_with_a_method_is_told_once_and_in_no_name(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "ssl")
    chosen = {"scope": "local", "score": "taylor", "rank": "per_param", "normalise": "kind"}
    make_run(tmp_path, "l1", method__name="l1", rsc=False, tf_weight=0.0, psnr=29.0, **chosen)
    table = table_of(tmp_path)
    assert [row.name for row in table.rows] == ["bicubic", "dense", "ssl", "l1"]
    assert "Names leave out what comes with them: ssl: rsc, global, score=l1" in table.note
    assert "l1: aligned, local, score=taylor, normalise=kind, rank=per_param, tf_weight=0" in table.note
    out = tmp_path / "out"
    for name in ("l1", "l1, aligned, local, score=taylor, normalise=kind, rank=per_param, tf_weight=0"):
        assert main([str(tmp_path), "--table", "main", "--against", name, "--out", str(out)]) == 0
        rows = list(csv.DictReader(io.StringIO((out / "main_evidence.csv").read_text())))
        assert {row["setting"]: row["verdict"] for row in rows}["l1"] == "reference"
