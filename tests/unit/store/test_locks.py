"""Locks: whom they let in, what they say of who holds them, and file systems that have none."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vsrprune.errors import UserError
from vsrprune.store import locks
from vsrprune.store.lease import changing
from vsrprune.store.locks import holders, opened, wait_for_lock

HOLD = """
import fcntl, sys
with open(sys.argv[1], "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds tmp_path/lock until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_holder_is_named_and_a_stopped_one_is_called_so(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    with opened(tmp_path / "lock") as handle:
        (named,) = holders(handle)
        assert named.startswith(f"process {holder.pid} ({sys.executable} -c")
        assert "stopped" not in named
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        (named,) = holders(handle)
        assert f"which is stopped: kill -CONT {holder.pid} lets it go on" in named


def test_a_long_wait_says_for_whom_and_how_to_go_without(
    tmp_path: Path,
    holder: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(locks, "SAID_AFTER", 0.0)
    said = locks.holders

    def then_let_go(handle: int) -> list[str]:
        found = said(handle)
        assert holder.stdin
        holder.stdin.close()
        return found

    monkeypatch.setattr(locks, "holders", then_let_go)
    with opened(tmp_path / "lock") as handle:
        wait_for_lock(handle, fcntl.LOCK_EX, tmp_path / "lock", "go without")
    holder.stdin = None
    line = capsys.readouterr().err
    assert line.startswith(f"waits for process {holder.pid} (")
    assert line.endswith(f"since 0 s, by the lock {tmp_path / 'lock'}; go without\n")


@pytest.mark.parametrize(("folder", "mutex"), [(0o755, 0o600), (0o700, 0o600), (0o775, 0o660), (0o777, 0o666)])
def test_the_mutex_of_a_store_is_open_to_those_who_may_write_into_it(tmp_path: Path, folder: int, mutex: int) -> None:
    tmp_path.chmod(folder)
    (tmp_path / ".mutex").touch(0o644)
    with changing(tmp_path):
        assert (tmp_path / ".mutex").stat().st_mode & 0o777 == mutex


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(UserError, match=r"the file system mounted at /.* has no locks \(No locks available\)") as caught,
        changing(tmp_path),
    ):
        pass
    assert "\n" not in str(caught.value)
