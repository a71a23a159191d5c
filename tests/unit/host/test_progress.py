"""What a line of progress says, when a log gets one, and what is left of a job and of its sweep."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest

from vsrprune.host import progress
from vsrprune.host.outlook import Foretold, Outlook
from vsrprune.host.progress import Now, StageProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds; nobody but the test looks at it."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.StageProgress, "_watch", lambda self: None)
    return now


def test_time_left_is_that_of_the_steps_that_are_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress("pretrain", 8000) as bar:
        clock[0] = 200.0
        bar.update(2000)
    assert capsys.readouterr().out == "  pretrain   2000/8000, 10.0/s, left: 10 min\n"


def test_steps_of_an_earlier_process_are_not_taken_for_fast_ones(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with StageProgress("pretrain", 4000) as bar:
        clock[0] = 30.0  # to start
        bar.start_at(3000)
        bar.update(3001)
        clock[0] = 130.0
        bar.update(3500)  # 500 steps in 100 s
    assert capsys.readouterr().out == (
        "  pretrain   goes on after step 3000\n  pretrain   3500/4000, 5.0/s, left: 2 min\n"
    )


def test_a_log_gets_a_line_after_5_seconds_and_whenever_the_time_has_doubled(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with StageProgress("finetune", 100) as bar:
        for second in range(1, 101):
            clock[0] = float(second)
            bar.update(second)
    steps = [int(line.split()[1].partition("/")[0]) for line in capsys.readouterr().out.splitlines()]
    assert steps == [5, 10, 20, 40, 80]


def test_a_log_of_days_gets_a_line_every_10_minutes() -> None:
    now = Now()
    due = [second for second in range(7200) if now.is_due(second)]
    assert due[:8] == [5, 10, 20, 40, 80, 160, 320, 640]
    assert {after - before for before, after in pairwise(due[7:])} == {600}


def test_slow_steps_are_told_in_seconds(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress("pretrain", 10) as bar:
        clock[0] = 8.0
        bar.update(2)
    assert capsys.readouterr().out == "  pretrain   2/10, 4.0 s each, left: 32 s\n"


def test_a_stage_without_steps_says_what_it_does_and_for_how_long(clock: list[float]) -> None:
    with StageProgress("reference") as bar:
        bar.does("restores chelsea_0")
        clock[0] = 7.0
        assert bar.words() == "7 s so far, restores chelsea_0"


def test_a_log_is_not_silent_while_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as in the middle of an import: the lines come from a thread."""
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    with StageProgress("start") as bar:
        bar.does("imports PyTorch")
        printed = ""
        for _ in range(1000):
            printed += capsys.readouterr().out
            if "PyTorch" in printed:
                break
            bar._ended.wait(0.01)
    assert "  start      0 s so far, imports PyTorch\n" in printed


def test_every_step_is_told_to_whoever_keeps_it(clock: list[float]) -> None:
    told: list[int] = []
    with StageProgress("finetune", 3, on_step=told.append) as bar:
        bar.count(3)
        for step in (1, 2, 3):
            bar.update(step)
    assert told == [1, 2, 3]


class Terminal(io.StringIO):
    """Takes what is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_of_80_columns_shows_the_name_the_bar_and_the_time_that_is_left(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr(progress._Words, "max_refresh", None)
    for name, value in {"COLUMNS": "80", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    outlook = Outlook(Foretold({"reference": 60.0, "measure": 120.0}, later=3600.0))
    with StageProgress("reference", left=lambda *seen: outlook.words("reference", *seen)) as bar:
        bar.does("restores the frames of a clip with a very long name one by one")
        clock[0] = 1.0
        bar._progress.refresh()
    shown = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", terminal.getvalue())]
    last = [line for line in shown if line.strip()][-1]
    assert re.match(r"  reference  \S{12} 1 s so far, left: job 3 min, sweep 1 h, restores ", last)
    assert len(last) <= 80


# What is left of a job

STAGES = {"flow": 100.0, "pretrain": 600.0, "measure": 300.0}


def test_a_job_takes_what_was_foretold_while_nothing_is_seen() -> None:
    assert Outlook(Foretold(STAGES, later=2000.0)).left("flow", 0.0, None) == (1000.0, 3000.0)


def test_a_job_alone_has_no_sweep() -> None:
    assert Outlook(Foretold(STAGES)).left("flow", 0.0, None) == (1000.0, None)


def test_nothing_is_said_where_nothing_was_foretold() -> None:
    outlook = Outlook(Foretold())
    assert outlook.left("flow", 10.0, 5.0) == (None, None)
    assert outlook.words("flow", 10.0, 5.0) == "left: 5 s"
    assert outlook.words("flow", 10.0, None) == ""


def test_what_is_to_come_takes_longer_where_stages_took_longer() -> None:
    """Of 1000 s foretold, 10 % count as met: 100 s that took 300 make a pace of (300 + 100) / (100 + 100) = 2."""
    outlook = Outlook(Foretold(STAGES))
    outlook.ended("flow", 300.0)
    assert outlook.left("pretrain", 0.0, None) == (2 * 900.0, None)


def test_a_short_first_stage_does_not_speak_for_hours() -> None:
    outlook = Outlook(Foretold({"flow": 1.0, "pretrain": 3600.0}))
    outlook.ended("flow", 12.0)
    job, _ = outlook.left("pretrain", 0.0, None)
    assert job == pytest.approx(3600, rel=0.04)


def test_the_pace_of_the_stage_under_way_counts() -> None:
    """Its own steps say that it takes 1300 s in place of 600, beside 105 s that count as met."""
    outlook = Outlook(Foretold(STAGES, later=50.0))
    outlook.ended("flow", None)  # was there
    assert outlook.left("pretrain", 300.0, 1000.0) == (
        pytest.approx(1000 + (1300 + 105) / (600 + 105) * 300),
        pytest.approx(1000 + (1300 + 105) / (600 + 105) * 350),
    )


def test_a_stage_that_takes_longer_than_foretold_has_nothing_left_and_no_less() -> None:
    assert Outlook(Foretold(STAGES)).left("measure", 400.0, None) == (700.0, None)


def test_words_name_the_stage_the_job_and_the_sweep() -> None:
    outlook = Outlook(Foretold({"pretrain": 60.0, "measure": 120.0}, later=3600.0))
    assert outlook.words("pretrain", 0.0, 58.0) == "left: 58 s, job 3 min, sweep 1 h"
    assert outlook.words("pretrain", 0.0, None) == "left: job 3 min, sweep 1 h"


def test_what_was_foretold_survives_the_way_to_a_job() -> None:
    foretold = Foretold(STAGES, 12.5, 3.0, 2.0)
    assert Foretold.read(foretold.text()) == foretold
