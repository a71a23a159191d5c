"""What the terminal says of two runs: the sentences of the report, and numbers worked out by hand."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.diff import main
from analysis.pairs import WORDS

MakeRun = Callable[..., Path]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What the command prints of two jobs, spaces made one."""
    monkeypatch.setenv("COLUMNS", "80")

    def told(*arguments: object) -> str:
        assert main([str(item) for item in arguments]) == 0
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= 80 or "/" in max(printed.splitlines(), key=len)
        return re.sub(r"\s+", " ", printed)

    return told


def test_two_settings_are_compared_over_their_replicates(
    tmp_path: Path, make_run: MakeRun, said: Callable[..., str]
) -> None:
    """Differences of 0.1 and 0.102 dB: mean 0.101, deviation 0.00141, times 12.706 / sqrt(2) a half width of 0.013."""
    jobs = {
        (rsc, replicate): make_run(
            tmp_path, f"{rsc}{replicate}", rsc=rsc, replicate=replicate, macs=4000 + 1000 * rsc,
            psnr=30 + 0.5 * replicate + rsc * (0.1 + 0.002 * replicate), notes=["of rsc"] * rsc,
        )
        for rsc in (True, False)
        for replicate in (0, 1)
    }  # fmt: skip
    text = said(jobs[False, 0], jobs[True, 0])
    # Both `rule` and the knob behind it.
    assert "2 configuration values differ; 3 of 9 stages are shared, and the two part at select." in text
    assert "over 2 dense networks: +0.101 ± 0.013 dB (95 % interval): B is better." in text
    assert "PSNR tuned (dB) 30.00 30.10 +0.10" in text
    assert "MACs kept (%) 50.0 62.5 +12.5" in text
    assert "latency (ms per frame) 2.00 2.00 \N{EN DASH}" in text
    assert "Layers that differ most none" in text
    assert "note: B: of rsc" in text
    assert "B is worse" in said(jobs[True, 0], jobs[False, 0])
    assert WORDS["seeds"] in said(jobs[True, 0], jobs[True, 1])


def test_a_folder_of_two_jobs_stands_for_them(
    tmp_path: Path, make_run: MakeRun, said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [make_run(tmp_path / "runs" / "sweep", name, ratio=ratio) for name, ratio in (("a", 0.3), ("b", 0.7))]
    (tmp_path / "runs" / "latest").symlink_to("sweep")
    expected = said(*jobs)
    for folder in (tmp_path / "runs" / "latest", tmp_path / "runs" / "sweep", tmp_path / "runs"):
        assert said(folder) == expected
    make_run(tmp_path / "runs", "c")
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(tmp_path / "runs")])
    told = capsys.readouterr().err
    assert "two jobs are compared, and these are 3; name two of them: " in told
    assert told.count("\n") == 1
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(jobs[0])])
    assert "two jobs are compared, and these are 1\n" in capsys.readouterr().err


def test_layers_stand_in_the_order_of_their_difference(
    tmp_path: Path, make_run: MakeRun, said: Callable[..., str]
) -> None:
    """Of 16, 16 and 8 units: 11, 11 and 6 are kept at ratio=0.3, and 5, 5 and 2 at 0.7."""
    jobs = [make_run(tmp_path, str(ratio), ratio=ratio) for ratio in (0.3, 0.7)]
    text = said(*jobs)
    rows = ("fusion 6/8 2/8 +50.0 %", "backward.conv1 11/16 5/16 +37.5 %", "forward.conv1 11/16 5/16 +37.5 %")
    places = [text.index(row) for row in rows]
    assert places == sorted(places)
    assert "ratio 0.3 0.7" in text
    assert WORDS["unpaired"] in text


def test_replicates_in_other_folders_are_found_where_they_are_said_to_be(
    tmp_path: Path, make_run: MakeRun, said: Callable[..., str]
) -> None:
    for replicate in (0, 1):
        for rsc in (True, False):
            make_run(tmp_path / f"{rsc}" / f"{replicate}", "job", rsc=rsc, replicate=replicate)
    jobs = [tmp_path / name / "0" / "job" for name in ("True", "False")]
    assert WORDS["unpaired"] in said(*jobs)
    assert "over 2 dense networks: +0.000 ± 0.000 dB" in said(*jobs, "--among", tmp_path)


def test_results_on_other_clips_are_not_subtracted(tmp_path: Path, make_run: MakeRun, said: Callable[..., str]) -> None:
    jobs = [make_run(tmp_path, name, data__name=name) for name in ("demo", "vid4")]
    text = said(*jobs)
    assert WORDS["incomparable"] in text
    assert "B - A" not in text.split("Results")[1].split("Layers")[0]
    assert "0 of 9 stages are shared, and the two part at pretrain." in text


def test_the_same_run_in_two_folders_is_said_to_be_one(
    tmp_path: Path, make_run: MakeRun, said: Callable[..., str]
) -> None:
    job = make_run(tmp_path, "a")
    shutil.copytree(job, tmp_path / "b")
    assert WORDS["same"] in said(job, tmp_path / "b")
    assert WORDS["same"] in said(job, job)


def test_what_is_no_job_is_one_line(tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_run(tmp_path, "a")
    for other, words in (
        (tmp_path / "nowhere", "there is no folder"),
        (tmp_path, "is no job: there is no result.json"),
    ):
        with pytest.raises(SystemExit, match=r"^2$"):
            main([str(job), str(other)])
        text = capsys.readouterr().err
        assert words in text
        assert text.count("\n") == 1
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text("{")
    with pytest.raises(SystemExit, match=r"^2$"):
        main([str(job), str(tmp_path / "broken")])
    assert "cannot be read" in capsys.readouterr().err
