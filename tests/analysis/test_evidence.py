"""Every setting against a reference: differences, clips, words, published rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.escaping import MISSING
from analysis.evidence import Evidence, evidence_csv, evidence_latex, evidence_markdown, evidence_rows
from analysis.runs import load_runs
from analysis.tables import main, settings_compared
from vsrprune.errors import UserError
from vsrprune.results.result import RESULT
from vsrprune.store.sealed import read_sealed

MakeRun = Callable[..., Path]


def rows_of(folder: Path, table: str, against: str = "") -> dict[str, Evidence]:
    runs = load_runs([str(folder)])
    return {row.name: row for row in evidence_rows(settings_compared(runs, table), runs, against)}


def test_words_follow_the_dense_networks(tmp_path: Path, make_run: MakeRun) -> None:
    for replicate in (0, 1, 2):
        make_run(tmp_path, f"l1{replicate}", replicate=replicate, psnr=30 + replicate)
        make_run(
            tmp_path, f"gate{replicate}", score="gate", replicate=replicate, psnr=29.5 + replicate + 0.01 * replicate
        )
        make_run(
            tmp_path,
            f"random{replicate}",
            score="random",
            replicate=replicate,
            psnr=30 + replicate + (0.1, -0.1, 0.05)[replicate],
        )
    rows = rows_of(tmp_path, "score")
    assert [row.verdict for row in rows.values()] == ["reference", "worse", "within noise"]
    gate, random = rows["score=gate"], rows["score=random"]
    assert gate.against is not None
    assert gate.against.difference is not None
    assert gate.against.difference.mean == pytest.approx(-0.49)
    # Differences -0.50, -0.49, -0.48: t = -0.49 / (0.01 / sqrt 3) = -84.870, p = 1 - |t| / sqrt(t^2 + 2) at two degrees
    # of freedom; Holm doubles the smaller of two.
    assert gate.against.p_value == pytest.approx(2 * (1 - 84.870489 / math.sqrt(84.870489**2 + 2)), rel=1e-5)
    assert (gate.psnr.networks, gate.psnr.plans, gate.psnr.runs) == (3, 1, 3)
    assert (random.units_cut, random.macs_kept) == (0.5, 0.5)


def test_one_dense_network_with_three_data_seeds_says_so(tmp_path: Path, make_run: MakeRun) -> None:
    """The spread of data orders by hand: 30.0, 30.1 and 30.2 deviate by 0.1."""
    for seed in (0, 1, 2):
        make_run(tmp_path, f"global{seed}", seed=seed, psnr=30.0 + 0.1 * seed)
        make_run(tmp_path, f"local{seed}", scope="local", seed=seed, psnr=31.0 + 0.1 * seed)
    rows = rows_of(tmp_path, "scope")
    local = rows["local"]
    assert (local.psnr.networks, local.psnr.runs, local.verdict) == (1, 3, "one dense network")
    assert local.against is not None
    assert math.isnan(local.against.p_value)
    text = evidence_markdown(list(rows.values())).replace(MISSING, "-")
    assert "| local | 1 | 1 | 3 | 31.100 (sd 0.100) | +1.000 | one dense network | - | 50.0% | 50.0% | +1.000 |" in text
    assert "Behind each number: one dense network, 1 plan and 3 runs." in text
    assert "no interval and no verdict over dense networks: sd is the spread over data orders alone" in text


def test_clips_of_a_network_are_no_evidence_of_their_own(tmp_path: Path, make_run: MakeRun) -> None:
    """Eight clips that all gain do not make one dense network more than one."""
    for name, scope, gain in (("a", "global", 0.0), ("b", "local", 0.5)):
        path = make_run(tmp_path, name, scope=scope, psnr=30 + gain) / RESULT
        values = read_sealed(path)
        clips = {f"clip{number}": {"psnr": 30 + gain, "ssim": 0.8} for number in range(8)}
        values["quality"]["finetuned"]["clips"] = clips
        path.write_text(json.dumps(values))
    assert rows_of(tmp_path, "scope")["local"].verdict == "one dense network"


def test_verdicts_hold_for_all_rows_of_a_table_together(tmp_path: Path, make_run: MakeRun) -> None:
    """Differences of 0.1 with a deviation of 0.03 have p = 0.0286 alone, and 0.0572 and more beside another row."""
    shifts = (-0.03, 0.0, 0.03)
    for replicate, shift in enumerate(shifts):
        make_run(tmp_path, f"a{replicate}", replicate=replicate, psnr=30.0)
        make_run(tmp_path, f"b{replicate}", replicate=replicate, scope="local", psnr=30.1 + shift)
    alone = rows_of(tmp_path, "scope")["local"]
    for replicate, shift in enumerate(shifts):
        make_run(tmp_path, f"c{replicate}", replicate=replicate, scope="per_layer", psnr=30.1 - shift)
    together = rows_of(tmp_path, "scope")["local"]
    t = 0.1 / (0.03 / math.sqrt(3))
    p_value = 1 - t / math.sqrt(t**2 + 2)
    assert alone.against is not None
    assert together.against is not None
    assert (alone.verdict, alone.against.p_value) == ("better", pytest.approx(p_value))
    assert (together.verdict, together.against.p_value) == ("within noise", pytest.approx(2 * p_value))


def test_a_dense_network_below_the_baseline_is_marked(tmp_path: Path, make_run: MakeRun) -> None:
    for scope, dense in (("global", 27.9), ("local", 31.0)):
        make_run(tmp_path, scope, scope=scope, dense=dense)
    text = evidence_markdown(list(rows_of(tmp_path, "scope").values()))
    assert "| global \N{DAGGER} | 1 |" in text
    assert "| local | 1 |" in text
    assert "\N{DAGGER} The dense network's PSNR is below that of the baseline" in text


def test_the_reference_is_named_or_the_first(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "l1", psnr=30.0)
    make_run(tmp_path, "gate", score="gate", psnr=29.0)
    assert rows_of(tmp_path, "score")["score=l1"].verdict == "reference"
    against = rows_of(tmp_path, "score", "score=gate")
    assert against["score=gate"].verdict == "reference"
    words = against["score=l1"].against
    assert words is not None
    assert words.text() == "+1.000"
    with pytest.raises(UserError, match=r"--against must name a setting of the table: score=l1; score=gate; got 'l1'"):
        rows_of(tmp_path, "score", "l1")


def test_settings_without_a_common_replicate_are_not_compared(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "l1", replicate=0)
    make_run(tmp_path, "gate", score="gate", replicate=1)
    assert rows_of(tmp_path, "score")["score=gate"].verdict == "no replicate in common"


def test_published_rows_say_that_they_are(tmp_path: Path, make_run: MakeRun) -> None:
    for score in ("l1", "gate"):
        make_run(tmp_path, score, score=score, data__name="vid4")
    rows = rows_of(tmp_path, "score")
    assert (rows["SSL-bi"].verdict, rows["SSL-bi"].psnr.mean) == ("published", 27.15)
    text = evidence_markdown(list(rows.values())).replace(MISSING, "-")
    assert "| SSL-bi | - | - | - | 27.15 | - | published | - | - | 27.3% | - |" in text
    assert "| EDVR-M | - | - | - | 27.10 | - | published | - | - | - | - |" in text
    assert "QBasicVSR (NeurIPS 2025) table 1" in text


def test_all_formats_hold_the_same_rows(tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    for replicate in (0, 1):
        make_run(tmp_path / "runs", f"a{replicate}", replicate=replicate, psnr=30 + replicate)
        make_run(tmp_path / "runs", f"b{replicate}", replicate=replicate, psnr=30.5 + replicate, tf_weight=0.0)
    out = tmp_path / "tables"
    assert main([str(tmp_path / "runs"), "--table", "tf", "--out", str(out)]) == 0
    assert "| reference |" in capsys.readouterr().out
    rows = list(rows_of(tmp_path / "runs", "tf").values())
    assert (out / "tf_evidence.md").read_text() == evidence_markdown(rows)
    assert (out / "tf_evidence.tex").read_text() == evidence_latex(rows)
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


def test_rows_at_unequal_macs_stand_against_the_line_of_the_reference(tmp_path: Path, make_run: MakeRun) -> None:
    """By hand: aligned has 30.0 dB at 40 % of the MACs and 30.6 dB at 60 %, so 30.3 dB at 50 %, where rsc has 30.4.

    rsc at 70 % lies beyond that line: from aligned at 60 % to the dense network's 31 dB, 40 % of the MACs are 0.4 dB.
    """
    for rsc, ratio, macs, psnr in (
        (False, 0.5, 3200, 30.0), (False, 0.3, 4800, 30.6), (True, 0.5, 4000, 30.4), (True, 0.3, 5600, 30.7),
    ):  # fmt: skip
        make_run(tmp_path, f"{rsc}{ratio}", rsc=rsc, ratio=ratio, macs=macs, psnr=psnr)
    runs = load_runs([str(tmp_path)])
    rows = {(row.name, row.column): row for row in evidence_rows(settings_compared(runs, "rule"), runs)}
    inside = rows["rsc", "50 % of the units cut"]
    assert inside.at_equal_macs is not None
    assert inside.at_equal_macs.psnr.mean == pytest.approx(0.1)
    outside = rows["rsc", "30 % of the units cut"]
    assert outside.at_equal_macs is None
    assert outside.slope == pytest.approx(0.01)
    text = evidence_markdown(list(rows.values()))
    assert "| 50.0% | 50.0% | +0.100 |" in text
    assert "| 70.0% | 0.010 dB/% |" in text
