"""Leases between real processes: one holder at a time, taken over from the dead at once, from the stalled in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vsrprune.store.lease import Holder, Lease, try_acquire
from vsrprune.store.store import Store

HOLD = """
import sys, time
from pathlib import Path
from vsrprune.store.lease import try_acquire
lease = try_acquire(Path(sys.argv[1]), float(sys.argv[2]))
lease.__enter__()
print(lease.token, flush=True)
time.sleep(60)
"""


def holder_process(path: Path, seconds: float) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def acquired(path: Path, seconds: float, patience: float) -> Lease:
    """The lease, as soon as it is to be had within `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        held = try_acquire(path, seconds)
        if isinstance(held, Lease):
            return held
        time.sleep(0.02)
    raise AssertionError(f"no lease within {patience} s")


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    first = try_acquire(path, 60)
    assert isinstance(first, Lease)
    with first:
        second = try_acquire(path, 60)
        assert isinstance(second, Holder)
        assert (second.pid, second.token) == (os.getpid(), first.token)
        assert not second.is_dead
    assert not path.exists()
    assert isinstance(try_acquire(path, 60), Lease)


def test_a_killed_holder_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    process, token = holder_process(path, 3600)
    held = try_acquire(path, 3600)
    assert isinstance(held, Holder)
    assert (held.pid, held.token) == (process.pid, token)
    process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not held.is_dead:  # the zombie counts as dead before anyone waits for it
        assert time.monotonic() < deadline
    assert isinstance(try_acquire(path, 3600), Lease)
    process.wait()


def test_a_later_process_with_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with acquired(path, 60, 1):
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, "started": "1"}))
        assert isinstance(try_acquire(path, 60), Lease)


def test_a_holder_on_another_host_keeps_its_lease_while_it_touches_it(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    away = Holder(host="elsewhere/boot/1", pid=os.getpid(), started="1", token="away")
    assert not away.is_dead
    path.write_text(json.dumps(vars(away)))
    assert try_acquire(path, 60) == away
    old = time.time() - 61
    os.utime(path, (old, old))
    assert isinstance(try_acquire(path, 60), Lease)


def test_a_stalled_holder_loses_its_lease_and_notices(tmp_path: Path) -> None:
    """A real process is stopped, not killed; when it wakes, its beats leave the new holder's lease alone."""
    path = tmp_path / "lease.json"
    process, token = holder_process(path, 0.5)
    try:
        process.send_signal(signal.SIGSTOP)
        lease = acquired(path, 0.5, patience=10)
        assert lease.token != token
        with lease:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.5)
            with lease.checked() as mine:
                assert mine
    finally:
        process.kill()
        process.wait()


def test_a_lease_that_was_lost_is_not_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    first = acquired(path, 60, 1)
    with first:
        path.unlink()
        second = acquired(path, 60, 1)
        with first.checked() as mine:
            assert not mine
    assert json.loads(path.read_text())["token"] == second.token


LIVING = {"host": "elsewhere/boot/1", "pid": 1, "started": "1", "token": "t"}


@pytest.mark.parametrize("forged", [{"pid": "x"}, {"pid": -1}, {"pid": 0}, {"pid": 2**70}, {"host": 1}, {"token": []}])
def test_a_lease_of_no_process_is_nobodys(tmp_path: Path, forged: dict[str, object]) -> None:
    path = tmp_path / "lease.json"
    path.write_text(json.dumps(LIVING))
    assert isinstance(try_acquire(path, 60), Holder)
    path.write_text(json.dumps({**LIVING, **forged}))
    assert isinstance(try_acquire(path, 60), Lease)


def test_a_lease_from_the_future_ends(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.write_text(json.dumps(LIVING))
    os.utime(path, (time.time() + 7200, time.time() + 7200))
    assert isinstance(try_acquire(path, 60), Lease)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "[" * 100_000])
def test_a_torn_lease_is_nobodys(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lease.json"
    path.write_text(content)
    assert isinstance(try_acquire(path, 60), Lease)


RACER = """
import sys, time
from pathlib import Path
from vsrprune.store.store import Store
def make(folder, work):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    time.sleep(0.05)
    (folder / "x").write_text("x")
store = Store(Path(sys.argv[1]), print)
for index in range(10):
    store.produce("score", f"{index:016x}", {}, make)
"""


def test_racing_processes_compute_every_stage_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", RACER, str(tmp_path / "store"), str(log)]
    racers = [subprocess.Popen(command) for _ in range(6)]
    assert [racer.wait(timeout=120) for racer in racers] == [0] * 6
    assert log.read_text().count("made") == 10


def test_a_stalled_publisher_uses_the_result_of_the_one_that_took_over(tmp_path: Path) -> None:
    """The first holder is stalled in `make`, loses its lease, and must not publish what it made."""
    warnings: list[str] = []
    store = Store(tmp_path / "store", warnings.append, lease_seconds=60)
    lease = tmp_path / "store" / "leases" / "score-k.json"
    taken = threading.Event()
    workdirs: list[Path] = []

    def slow(folder: Path, work: Path) -> None:
        workdirs.append(work)
        (work / "checkpoint").write_text("step 40")
        lease.unlink()  # what the end of a lease on another host amounts to
        other = threading.Thread(target=lambda: store.produce("score", "k", {}, quick))
        other.start()
        other.join()
        taken.set()
        (folder / "x").write_text("slow")

    def quick(folder: Path, work: Path) -> None:
        assert (work / "checkpoint").read_text() == "step 40"
        assert not workdirs[0].exists()
        (folder / "x").write_text("quick")

    artifact = store.produce("score", "k", {}, slow)
    assert taken.is_set()
    assert artifact.path("x").read_text() == "quick"
    assert any("went to another process" in warning for warning in warnings)
