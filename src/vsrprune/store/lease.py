"""The exclusive right to compute one stage, on one machine or on a shared file system, without a server.

A lease is a small file that names its holder. The holder touches it while it works. It passes to another process at
once when its holder is dead on this host, and otherwise when it has not been touched for the length of the lease. All
changes of lease files happen under one short file lock (flock), and every lease has a token of its own, so a holder
that was stalled and wakes finds that the token in the file is no longer its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vsrprune.store.atomic import read_json
from vsrprune.store.locks import opened, wait_for_lock
from vsrprune.store.repeated import Repeated

WITHOUT = "end it, or use another store_dir"  # what a user can do who does not want to wait
BEATS = 5  # touches per length of a lease: a few may fail or come late before the lease is lost
MOST_PID = 2**22  # proc(5): the kernel's own limit


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease. `started` tells it apart from a later process with the same number."""

    host: str
    pid: int
    started: str
    token: str

    @classmethod
    def this_process(cls) -> Holder:
        """A holder with a new token."""
        return cls(_host(), os.getpid(), _start_time(os.getpid()) or "", uuid.uuid4().hex)

    @property
    def is_dead(self) -> bool:
        """Whether it ran on this host and is gone; False where that cannot be known."""
        if self.host != _host():
            return False  # nobody here can ask another machine; the length of the lease decides
        # A process number alone is not enough: the kernel gives it to another process after a crash.
        started = _start_time(self.pid)
        if started is not None:
            return started != self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return Path("/proc/self/stat").exists()  # alive to the kernel but not in /proc: a zombie

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.split('/')[0]}"


class Lease:
    """A held lease; a context manager that gives it back. A thread touches it meanwhile."""

    def __init__(self, path: Path, holder: Holder, seconds: float) -> None:
        self._path, self.holder = path, holder
        self._beats = Repeated(seconds / BEATS, self._beat)

    @property
    def token(self) -> str:
        """A random text that no other lease has."""
        return self.holder.token

    @contextlib.contextmanager
    def checked(self) -> Iterator[bool]:
        """Whether the lease is still this holder's; nobody can change any lease until the context ends."""
        with changing(self._path.parent):
            yield self._is_mine()

    def _is_mine(self) -> bool:
        holder = _read(self._path)
        return holder is not None and holder.token == self.token

    def _beat(self) -> None:
        # No lock: a beat would wait for it while others hold it. The worst that a race does is to touch the file of the
        # new holder once, which prolongs a lease that is alive anyway.
        with contextlib.suppress(OSError):  # a beat that fails is a beat missed: the lease ends if all do
            if self._is_mine():
                os.utime(self._path)

    def __enter__(self) -> Lease:
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beats.end()  # first: a beat after the file is gone could touch the lease of the next holder
        with self.checked() as mine:
            if mine:  # else it belongs to whoever took it over meanwhile
                self._path.unlink()


def is_held(path: Path, seconds: float) -> bool:
    """Whether someone holds the lease and has not lost it."""
    with changing(path.parent) as now:
        return _holder(path, seconds, now) is not None


def _holder(path: Path, seconds: float, now: float) -> Holder | None:
    holder = _read(path)
    # On both sides: a time in the future is of a clock that was set back, or forged, and would keep the lease for ever.
    alive = holder is not None and not holder.is_dead and abs(now - path.stat().st_mtime) < seconds
    return holder if alive else None


def try_acquire(path: Path, seconds: float) -> Lease | Holder:
    """The lease on `path`, or the holder that has it. Never waits for another holder."""
    with changing(path.parent) as now:
        holder = _holder(path, seconds, now)
        if holder is not None:
            return holder
        for left_over in path.parent.glob(f".{path.name}-*"):  # by a process that died right here
            left_over.unlink()
        mine = Holder.this_process()
        beside = path.with_name(f".{path.name}-{mine.token}")
        # No fsync: a lease that a crash of the machine tore has no holder any more, and reads as free.
        beside.write_text(json.dumps(asdict(mine)))
        beside.replace(path)
        return Lease(path, mine, seconds)


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[float]:
    """Be the only process that changes leases in `folder`; yields the time by the file system's own clock.

    Raises UserError where the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Who may write into the folder may hold the lock: others, who could stop all work by it, may not even read it.
    shared = folder.stat().st_mode & 0o022
    with opened(folder / ".mutex", 0o600 | shared | shared << 1) as handle:
        wait_for_lock(handle, fcntl.LOCK_EX, folder / ".mutex", WITHOUT)
        # Ages of leases are compared with the clock that stamps them: clocks of machines differ by more than a beat.
        os.utime(handle)
        yield os.fstat(handle).st_mtime


def _read(path: Path) -> Holder | None:
    try:
        return holder_of(read_json(path))
    except (FileNotFoundError, ValueError):
        return None  # not there, or torn by a crash of the machine: nobody's


def holder_of(values: Any) -> Holder | None:
    """The holder that a lease's JSON names; None where it names none."""
    try:
        holder = Holder(**values)
    except TypeError:
        return None
    texts = (holder.host, holder.started, holder.token)
    is_one = all(isinstance(text, str) for text in texts) and type(holder.pid) is int and 0 < holder.pid <= MOST_PID
    return holder if is_one else None


def _host() -> str:
    """Host name, boot and process namespace: where all three agree, a process number means the same process."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(parts)


def _start_time(pid: int) -> str | None:
    """When a living process started, in kernel ticks; None if it is gone, a zombie, or the system has no /proc."""
    try:
        # proc(5): the name in parentheses may hold spaces and parentheses, so fields are counted from the last one.
        # Field 3 is the state, field 22 the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
