"""Every setting against a reference: differences, clips, words, published rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.evidence import Evidence, evidence_csv, evidence_latex, evidence_markdown, evidence_rows
from analysis.runs import load_runs
from analysis.tables import _escaped, main, settings_compared
from vsrprune.errors import UserError
from vsrprune.results.result import RESULT

MakeRun = Callable[..., Path]


def rows_of(folder: Path, table: str, against: str = "") -> dict[str, Evidence]:
    runs = load_runs([str(folder)])
    return {row.name: row for row in evidence_rows(settings_compared(runs, table), runs, against)}


def test_words_follow_the_seeds_and_clips_are_counted(tmp_path: Path, make_run: MakeRun) -> None:
    for seed in (0, 1, 2):
        make_run(tmp_path, f"l1{seed}", seed=seed, psnr=30 + seed)
        make_run(tmp_path, f"gate{seed}", score="gate", seed=seed, psnr=29.5 + seed + 0.01 * seed)
        make_run(tmp_path, f"random{seed}", score="random", seed=seed, psnr=30 + seed + (0.1, -0.1, 0.05)[seed])
    rows = rows_of(tmp_path, "score")
    assert [row.verdict for row in rows.values()] == ["reference", "worse", "within noise"]
    gate, random = rows["score=gate"], rows["score=random"]
    assert gate.difference is not None
    assert gate.difference.mean == pytest.approx(-0.49)
    assert gate.clips is not None
    assert (gate.clips.pairs, gate.clips.better, gate.clips.p_value) == (3, 0, 0.25)
    assert random.clips is not None
    assert (random.clips.better, random.units_cut, random.macs_kept) == (2, 0.5, 0.5)


def test_pairs_are_of_a_clip_and_a_seed(tmp_path: Path, make_run: MakeRun) -> None:
    for name, scope, clips in (("a", "global", (30.0, 20.0)), ("b", "local", (31.0, 19.5))):
        path = make_run(tmp_path, name, scope=scope) / RESULT
        values = json.loads(path.read_text())
        values["quality"]["finetuned"]["clips"] = {
            clip: {"psnr": psnr, "ssim": 0.8} for clip, psnr in zip(("walk", "city"), clips, strict=True)
        }
        path.write_text(json.dumps(values))
    local = rows_of(tmp_path, "scope")["local"]
    assert local.verdict == "one seed"
    assert local.clips is not None
    assert (local.clips.pairs, local.clips.better) == (2, 1)


def test_the_reference_is_named_or_the_first(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "l1", psnr=30.0)
    make_run(tmp_path, "gate", score="gate", psnr=29.0)
    assert rows_of(tmp_path, "score")["score=l1"].verdict == "reference"
    against = rows_of(tmp_path, "score", "score=gate")
    assert against["score=gate"].verdict == "reference"
    assert against["score=l1"].difference is not None
    assert against["score=l1"].difference.mean == 1.0
    with pytest.raises(UserError, match=r"--against must name a setting of the table: score=l1; score=gate; got 'l1'"):
        rows_of(tmp_path, "score", "l1")


def test_settings_without_a_common_seed_are_not_compared(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "l1", seed=0)
    make_run(tmp_path, "gate", score="gate", seed=1)
    assert rows_of(tmp_path, "score")["score=gate"].verdict == "no common seed"


def test_published_rows_say_that_they_are(tmp_path: Path, make_run: MakeRun) -> None:
    for score in ("l1", "gate"):
        make_run(tmp_path, score, score=score, data__name="vid4")
    rows = rows_of(tmp_path, "score")
    assert (rows["SSL-bi"].verdict, rows["SSL-bi"].psnr.mean) == ("published", 27.15)
    text = evidence_markdown(list(rows.values()))
    assert "| SSL-bi |  | 27.15 |  | published |  |  |  | 27.3% |" in text
    assert "| EDVR-M |  | 27.10 |  | published |  |  |  |  |" in text
    assert "QBasicVSR (NeurIPS 2025) table 1" in text


def test_all_formats_hold_the_same_rows(tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        make_run(tmp_path / "runs", f"a{seed}", seed=seed, psnr=30 + seed)
        make_run(tmp_path / "runs", f"b{seed}", seed=seed, psnr=30.5 + seed, tf_weight=0.0)
    out = tmp_path / "tables"
    assert main([str(tmp_path / "runs"), "--table", "tf", "--out", str(out)]) == 0
    assert "of 2 |" in capsys.readouterr().out
    rows = list(rows_of(tmp_path / "runs", "tf").values())
    assert (out / "tf_evidence.md").read_text() == evidence_markdown(rows)
    assert (out / "tf_evidence.tex").read_text() == evidence_latex(rows, _escaped)
    lines = list(csv.DictReader(io.StringIO((out / "tf_evidence.csv").read_text())))
    assert (out / "tf_evidence.csv").read_text() == evidence_csv(rows)
    assert [line["verdict"] for line in lines] == ["reference", "worse"]
    assert float(lines[1]["difference_db"]) == -0.5  # the first setting is the one without TF, 0.5 dB above


def test_a_wrong_reference_is_refused_at_the_door(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", scope="local")
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(tmp_path), "--table", "scope", "--against", "nowhere"])
    assert "got 'nowhere'" in capsys.readouterr().err
