"""The tables of EXPERIMENTS.md come from the runs that are kept in docs/evidence, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.tables import main as tables

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
QUESTIONS = sorted(path for path in EVIDENCE.iterdir() if path.is_dir())
LARGEST = 5_000_000  # bytes of all of it


@pytest.mark.parametrize("folder", QUESTIONS, ids=lambda folder: folder.name)
def test_kept_runs_give_the_tables_that_are_shown(folder: Path, tmp_path: Path) -> None:
    shown = [path.stem for path in folder.glob("*.md") if not path.name.endswith("_evidence.md")]
    assert shown
    for table in shown:
        assert tables([str(folder), "--table", table, "--out", str(tmp_path)]) == 0
    for path in folder.glob("*.md"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_what_is_kept_is_small_and_names_no_machine() -> None:
    files = [path for path in EVIDENCE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    assert {path.name for path in files if path.suffix == ".json"} == {"result.json", "measured.json"}
    assert not [path for path in files if re.search(r'"[/~]\w', path.read_text())]  # no path of any machine
