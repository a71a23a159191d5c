"""What a log says of the time that is left."""

from __future__ import annotations

import pytest

from vsrprune.host import progress
from vsrprune.host.progress import StageProgress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_that_of_the_steps_that_are_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress("pretrain", 8000) as bar:
        clock[0] = 200.0
        bar.update(2000)
    assert capsys.readouterr().out == "  pretrain   2000/8000, 600 s left\n"


def test_steps_of_an_earlier_process_are_not_taken_for_fast_ones(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with StageProgress("pretrain", 8000) as bar:
        clock[0] = 30.0  # to start
        bar.start_at(3000)
        bar.update(3001)
        clock[0] = 130.0
        bar.update(4000)  # 1,000 steps in 100 s
    assert capsys.readouterr().out == "  pretrain   4000/8000, 400 s left\n"
