"""Damaged and hostile files of jobs: analysis names them and shows the others."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import figures, tables
from analysis.escaping import for_csv, for_latex, for_markdown
from analysis.report import main as report_main
from analysis.report import report_page
from analysis.runs import load_runs
from vsrprune.errors import UserError
from vsrprune.results.result import Result

MakeRun = Callable[..., Path]
WRONG: tuple[Any, ...] = (None, True, -1, "x", [], {}, [[]], {"x": None}, 1e308)


@pytest.mark.parametrize("damage", ["missing", "cut", "noise"])
def test_a_job_with_damaged_crops_is_left_out_of_their_figure(
    tmp_path: Path, make_run: MakeRun, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", "whole", rsc=True)
    bad = make_run(tmp_path / "runs", "damaged", rsc=False, residual="inner")
    crop = next((bad / "crops").glob("*_pruned.png"))
    content = crop.read_bytes()
    crop.write_bytes(content[: len(content) // 2] if damage == "cut" else b"no picture")
    if damage == "missing":
        crop.unlink()
    command = [str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--only", "qualitative", "--run"]
    assert figures.main([*command, "whole"]) == 0
    said = f"damaged: its crops are damaged: {crop.name} is missing or cannot be read"
    assert capsys.readouterr().err == f"left out of the crops: {said}\n"
    assert (tmp_path / "out" / "qualitative.png").is_file()
    assert figures.main([*command, "damaged"]) == 0
    assert f"not drawn: qualitative: its crops are damaged: {crop.name}" in capsys.readouterr().err


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from _places(child, (*path, key))


@pytest.mark.parametrize("name", ["result.json", "measured.json"])
def test_no_value_of_a_damaged_file_ends_a_report(tmp_path: Path, make_run: MakeRun, name: str) -> None:
    make_run(tmp_path, "sound", side=0)
    bad = make_run(tmp_path, "bad", ratio=0.3, side=0)
    whole = (bad / name).read_text()
    places = sorted(_places(json.loads(whole)), key=str)
    for place in random.Random(0).sample(places, min(12, len(places))):
        for wrong in random.Random(str(place)).sample(WRONG, 2):
            tree = json.loads(whole)
            node = tree
            for key in place[:-1]:
                node = node[key]
            node[place[-1]] = wrong
            (bad / name).write_text(json.dumps(tree))
            try:
                assert "sound" in report_page([str(tmp_path)])
            except Exception as error:
                raise AssertionError(f"{name}: {place} = {wrong!r}") from error


@pytest.mark.parametrize(
    ("name", "text"),
    [("result.json", "[" * 100_000), ("result.json", "[]"), ("measured.json", "")],
)
def test_a_torn_file_leaves_its_job_out_with_the_reason(
    tmp_path: Path, make_run: MakeRun, name: str, text: str
) -> None:
    make_run(tmp_path, "sound")
    (make_run(tmp_path, "torn", ratio=0.3) / name).write_text(text)
    runs = load_runs([str(tmp_path)])
    assert [run.name for run in runs.finished] == ["sound"]
    assert runs.left_out[0].reason.startswith("cannot be read: ")
    assert len(report_page([str(tmp_path)])) > 0


def test_names_are_text_in_every_format() -> None:
    assert (
        for_latex("\\input{/etc/passwd}\n% ~^")
        == r"\textbackslash{}input\{/etc/passwd\} \% \textasciitilde{}\textasciicircum{}"
    )
    assert [for_csv(text) for text in ("=cmd|' /C calc'!A0", "+1", "-1", "@x", " =1", "a\tb", "ratio=0.5")] == [
        "'=cmd|' /C calc'!A0", "'+1", "'-1", "'@x", "' =1", "a b", "ratio=0.5",
    ]  # fmt: skip
    assert for_markdown("a|b\n<img src=x>*") == r"a\|b \<img src=x\>\*"


def test_a_hostile_name_stays_text_in_the_tables(tmp_path: Path, make_run: MakeRun) -> None:
    names = ("=cmd|' /C calc'!A0", "\\input{/etc/passwd}\n\\input{x}")
    for name in names:
        make_run(tmp_path / "runs", f"job{len(name)}", model__name=name, data__name="demo\n\\input{/etc/passwd}")
    assert tables.main([str(tmp_path / "runs"), "--table", "main", "--out", str(tmp_path / "out")]) == 0
    for path in (tmp_path / "out").glob("*.tex"):
        assert "\\input" not in path.read_text()
    for path in (tmp_path / "out").glob("*.csv"):
        assert not [cell for line in path.read_text().splitlines() for cell in line.split(",") if cell.startswith("=")]
    text = (tmp_path / "out" / "main.md").read_text()
    assert "'=cmd" not in text
    assert r"=cmd\|' /C calc'!A0" in text


def test_an_out_that_cannot_be_written_is_refused_before_any_run_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    nowhere = str(tmp_path / "no runs here")  # would be refused too, if it were looked at first
    for main, more in ((figures.main, []), (tables.main, ["--table", "main"])):
        for out in (tmp_path / "file", tmp_path / "file" / "x"):
            with pytest.raises(SystemExit) as stopped:
                main([nowhere, *more, "--out", str(out)])
            assert stopped.value.code == 2
            said = f"error: --out={out}: {tmp_path / 'file'} is a file where a folder is needed; name another folder\n"
            assert capsys.readouterr().err == said
    for out, words in ((tmp_path / "file" / "x.html", "is a file where"), (tmp_path, "is a folder")):
        monkeypatch.setattr(sys, "argv", ["report.py", nowhere, "--out", str(out)])
        with pytest.raises(SystemExit):
            report_main()
        assert words in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_of_damaged_jobs_alone_is_one_line(tmp_path: Path, make_run: MakeRun) -> None:
    (make_run(tmp_path, "torn") / "result.json").write_text("{")
    with pytest.raises(UserError, match="left out: torn: cannot be read: "):
        load_runs([str(tmp_path)])


@pytest.mark.parametrize(
    ("name", "reason"),
    [("metrics.jsonl", "metrics.jsonl fails its checksum"), ("result.json", "has no result yet")],
)
def test_a_job_of_other_curves_or_without_its_result_is_left_out(
    tmp_path: Path, make_run: MakeRun, name: str, reason: str
) -> None:
    make_run(tmp_path, "good")
    job = make_run(tmp_path, "bad", ratio=0.3)
    Result.load(job).save(job)  # now its curves lie there
    if name == "result.json":
        (job / name).unlink()
    else:
        (job / name).write_text((job / name).read_text().replace("1", "2", 1))
    runs = load_runs([str(tmp_path)])
    assert [run.name for run in runs.finished] == ["good"]
    (left,) = runs.left_out
    assert left.name == "bad"
    assert reason in left.reason
