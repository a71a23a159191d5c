"""Runs kept as small files: the same tables, and nothing of the machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.keep import main
from analysis.runs import load_runs
from analysis.tables import main as tables
from vsrprune.results.result import RESULT, Result

MakeRun = Callable[..., Path]


def _runs(folder: Path, make_run: MakeRun) -> None:
    for replicate in (0, 1, 2):
        for name, shift in (("ssl", 0.0), ("l1", -0.123456789)):
            make_run(
                folder / f"sweep{replicate}",
                f"job-{name}",
                replicate=replicate,
                psnr=29.987654321 + shift + replicate / 7,
                method__name=name,
                data__path="/home/somebody/clips",
                pretrained="/home/somebody/dense%.pth",
            )


@pytest.mark.parametrize("table", [["main"], ["method", "--against", "ssl"]], ids=" ".join)
def test_kept_runs_give_the_same_tables_to_the_byte(
    table: list[str], tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    _runs(tmp_path / "runs", make_run)
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "kept")]) == 0
    assert "6 runs in 0.0 MB" in capsys.readouterr().out
    printed = []
    for folder in ("runs", "kept"):
        assert tables([str(tmp_path / folder), "--table", *table]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_what_is_kept_tells_neither_the_machine_nor_where_the_clips_lie(tmp_path: Path, make_run: MakeRun) -> None:
    _runs(tmp_path / "runs", make_run)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "kept")])
    files = sorted(path for path in (tmp_path / "kept").rglob("*") if path.is_file())
    assert {path.name for path in files} == {"result.json", "measured.json"}
    text = "".join(path.read_text() for path in files)
    assert "/home" not in text
    assert "somebody" not in text
    assert {Result.load(path.parent).knobs["data"]["path"] for path in files} == {"clips"}
    assert {json.loads(path.read_text())["host"] for path in files if path.name == "measured.json"} == {""}


def test_a_run_that_is_kept_again_is_kept_once_and_its_means_stay_whole(tmp_path: Path, make_run: MakeRun) -> None:
    _runs(tmp_path / "runs", make_run)
    for _ in range(2):
        main([str(tmp_path / "runs"), "--out", str(tmp_path / "kept")])
    runs, kept = (load_runs([str(tmp_path / name)]).finished for name in ("runs", "kept"))
    assert len(kept) == len(runs) == 6
    for before, after in zip(runs, kept, strict=True):
        assert {name: quality.psnr for name, quality in after.result.quality.items()} == {
            name: quality.psnr for name, quality in before.result.quality.items()
        }
        assert after.result.plan == before.result.plan
        assert after.folder.name.startswith(
            f"{after.knobs['method']}-{after.knobs['rule']}-{after.knobs['replicate']}-"
        )


def test_numbers_of_frames_are_rounded_to_four_digits(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "runs", "job")
    before = Result.load(tmp_path / "runs" / "job")
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "kept")])
    (file,) = (tmp_path / "kept").rglob(RESULT)
    after = Result.load(file.parent)
    assert after.scores is None
    for point, branches in before.hidden_error.items():
        for branch, error in branches.items():
            assert after.hidden_error[point][branch].total == pytest.approx(error.total, rel=1e-3)
            assert all(float(f"{value:.4g}") == value for value in after.hidden_error[point][branch].total)
