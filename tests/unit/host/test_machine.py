"""Measuring and computing keep out of each other's way, between real processes."""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vsrprune.host.machine import is_measuring, measuring, working

CHILD = """
import sys
from vsrprune.host.machine import is_measuring, measuring, working

def say(text):
    print(text, flush=True)

kind = sys.argv[1]
say("begin")
if kind == "measure":
    with measuring(lambda: say("waiting")):
        say("measuring")
        input()
elif kind == "work":
    with working():
        say("working")
        input()
else:
    with working() as work:
        say("working")
        for line in sys.stdin:
            work.give_way()
            say("step")
say("end")
"""


class Child:
    """A process that does what it is told line by line."""

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.says() == "begin"

    def says(self, within: float = 20) -> str | None:
        """Its next line, or None if it stays silent."""
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], within)
        return self._process.stdout.readline().decode().strip() if ready else None

    def go_on(self) -> None:
        assert self._process.stdin
        self._process.stdin.write(b"\n")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another measurement on this machine must not hold up the tests."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@contextmanager
def child(kind: str) -> Iterator[Child]:
    process = Child(kind)
    try:
        yield process
    finally:
        process.end()


def test_many_work_at_once() -> None:
    with working(), child("work") as other:
        assert other.says() == "working"
        assert not is_measuring()


def test_a_measurement_waits_for_work_and_says_so() -> None:
    with child("work") as worker:
        assert worker.says() == "working"
        with child("measure") as measurer:
            assert measurer.says() == "waiting"
            assert measurer.says(within=0.3) is None
            assert is_measuring()
            worker.go_on()
            assert worker.says() == "end"
            assert measurer.says() == "measuring"


def test_work_gives_way_between_two_steps_and_goes_on_after_the_measurement() -> None:
    with child("steps") as worker:
        assert worker.says() == "working"
        worker.go_on()
        assert worker.says() == "step"
        with child("measure") as measurer:
            assert measurer.says() == "waiting"
            worker.go_on()
            assert measurer.says() == "measuring"
            assert worker.says(within=0.3) is None
            measurer.go_on()
            assert measurer.says() == "end"
            assert worker.says() == "step"
            worker.go_on()
            assert worker.says() == "step"


def test_work_and_a_second_measurement_wait_for_a_measurement() -> None:
    with measuring(), child("work") as worker, child("measure") as measurer:
        assert worker.says(within=0.3) is None
        assert measurer.says() == "waiting"
        assert measurer.says(within=0.3) is None


def test_a_killed_measurement_leaves_the_machine_free() -> None:
    with child("measure") as measurer:
        assert measurer.says() == "measuring"
        assert is_measuring()
    assert not is_measuring()
    with working():
        pass


def test_an_error_leaves_the_machine_free() -> None:
    for _ in range(2):  # the second would wait for ever if the first still held it
        with pytest.raises(ValueError, match="stop"), measuring():
            raise ValueError("stop")
    with pytest.raises(ValueError, match="stop"), working():
        raise ValueError("stop")
    with measuring(lambda: pytest.fail("the machine is free")):
        pass
