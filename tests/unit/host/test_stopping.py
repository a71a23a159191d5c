"""A sweep asks its jobs on other machines to stop by an object in the store."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsrprune.host import stopping
from vsrprune.host.stopping import STOP_AT, stop_all, stopping_when_asked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set when this process gets SIGTERM."""
    got, before = threading.Event(), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: got.set())
    monkeypatch.setattr(stopping, "LOOK_SECONDS", 0.01)
    try:
        yield got
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_job_is_asked_to_stop_by_its_own_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: threading.Event
) -> None:
    store = f"file://{tmp_path}/with a space"
    monkeypatch.setenv(STOP_AT, f"{store} mine")
    with stopping_when_asked():
        stop_all(store, "another")
        assert not asked.wait(0.2)
        stop_all(store, "mine")
        assert asked.wait(20)


def test_a_job_of_no_such_sweep_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STOP_AT, raising=False)
    before = threading.active_count()
    with stopping_when_asked():
        assert threading.active_count() == before
