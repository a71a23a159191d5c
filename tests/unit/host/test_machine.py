"""Measuring and computing keep out of each other's way, between real processes."""

from __future__ import annotations

import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vsrprune.errors import UserError
from vsrprune.host.machine import is_measuring, lock_folder, measuring, working

CHILD = """
import sys
from vsrprune.host.machine import is_measuring, measuring, working

def say(text):
    print(text, flush=True)

kind = sys.argv[1]
cards = sys.argv[2].split(",") if sys.argv[2:] else []
say("begin")
if kind == "measure":
    with measuring(lambda: say("waiting"), *cards):
        say("measuring")
        input()
elif kind == "work":
    with working(cards):
        say("working")
        input()
else:
    with working(cards) as work:
        say("working")
        for line in sys.stdin:
            work.give_way()
            say("step")
say("end")
"""


class Child:
    """A process that does what it is told line by line."""

    def __init__(self, kind: str) -> None:
        """kind: measure, work or steps, and perhaps the cards: "work on GPU-a"."""
        words = [word for word in kind.split() if word != "on"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
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


# Nobody else can hold the locks


def test_locks_lie_where_no_other_user_can_enter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with working():
        pass
    folder = lock_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert lock_folder() == runtime / "vsrprune"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nothing"))
    assert lock_folder() == folder


def enterable(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o755)


def linked(folder: Path) -> None:
    folder.with_name("elsewhere").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("elsewhere"))


@pytest.mark.parametrize("planted", [enterable, linked, Path.touch], ids=["enterable", "link", "file"])
def test_a_folder_of_locks_that_others_could_have_made_is_refused(planted: Callable[[Path], None]) -> None:
    folder = lock_folder()
    folder.rmdir()
    planted(folder)
    with pytest.raises(UserError, match="must be a folder of yours that nobody else can enter"), working():
        pass


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (lock_folder() / "gate.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"gate\.lock is a link"), working():
        pass
    assert not (tmp_path / "precious").exists()


# One lock per card, and one for the CPU


def test_work_on_a_card_goes_on_while_another_card_is_measured() -> None:
    with measuring(card="GPU-a"), child("work on GPU-b") as worker, child("work") as on_cpu:
        assert worker.says() == "working"
        assert on_cpu.says() == "working"
        assert is_measuring("GPU-a")
        assert not is_measuring("GPU-b")
        assert not is_measuring()


def test_two_cards_are_measured_at_once() -> None:
    with measuring(card="GPU-a"), child("measure GPU-b") as other:
        assert other.says() == "measuring"


def test_a_measurement_of_a_card_waits_for_the_work_on_it() -> None:
    with child("work on GPU-a,GPU-b") as worker:
        assert worker.says() == "working"
        with child("measure GPU-b") as measurer:
            assert measurer.says() == "waiting"
            assert measurer.says(within=0.3) is None
            worker.go_on()
            assert worker.says() == "end"
            assert measurer.says() == "measuring"


def test_a_measurement_of_the_cpu_waits_for_the_work_on_every_card() -> None:
    with child("work on GPU-a") as worker, child("measure") as measurer:
        assert worker.says() == "working"
        assert measurer.says() == "waiting"
        assert measurer.says(within=0.3) is None


def test_a_measurement_of_the_cpu_and_one_of_a_card_wait_for_each_other() -> None:
    with measuring(), child("measure GPU-a") as measurer:
        assert measurer.says() == "waiting"
        assert measurer.says(within=0.3) is None
    with child("measure GPU-a") as measurer:
        assert measurer.says() == "measuring"
        with child("measure") as other:
            assert other.says() == "waiting"
            measurer.go_on()
            assert measurer.says() == "end"
            assert other.says() == "measuring"


def test_work_leaves_all_its_devices_to_a_measurement_that_waits_for_one() -> None:
    """If it kept the card while it waits for the CPU, two measurements could wait for each other through it."""
    with child("steps on GPU-a") as worker:
        assert worker.says() == "working"
        with child("measure") as of_cpu:
            assert of_cpu.says() == "waiting"
            worker.go_on()
            assert of_cpu.says() == "measuring"
            assert worker.says(within=0.3) is None
            of_cpu.go_on()
            assert of_cpu.says() == "end"
            assert worker.says() == "step"
        with child("measure GPU-a") as of_card:
            assert of_card.says() == "waiting"
            worker.go_on()
            assert of_card.says() == "measuring"
            of_card.go_on()
            assert of_card.says() == "end"
            assert worker.says() == "step"


def test_a_card_finishes_what_it_was_asked_before_it_is_handed_over() -> None:
    finished: list[str] = []
    with working(["GPU-a"], lambda: finished.append("all")) as work:
        for _ in range(3):
            work.give_way()
        assert finished == []  # waiting for the card costs time, so that it is done for a measurement alone
        with child("measure GPU-a") as measurer:
            assert measurer.says() == "waiting"
            measurer.go_on()  # it ends as soon as it has measured
            work.give_way()
            assert finished == ["all"]
            assert measurer.says() == "measuring"


def test_the_old_names_of_parts_of_a_card_make_names_of_files() -> None:
    with measuring(card="MIG-GPU-a/1/0"):
        assert is_measuring("MIG-GPU-a/1/0")
