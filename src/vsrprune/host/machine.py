"""Locks between computing and timing: a measurement waits until this machine is quiet, and training pauses for it.

Otherwise a sweep of several jobs at a time would time itself.

Two lock files per user are in the system's folder for temporary files. Whoever computes holds `work` shared; whoever
times holds `gate` and then `work` alone. Everyone passes `gate` before taking `work`, so a measurement that waits is
next, and nobody starves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO


def _lock_file(name: str) -> IO[str]:
    # On this machine's disk and per user: a lock on a shared file system would stop other machines, and files of other
    # users cannot be opened.
    return (Path(tempfile.gettempdir()) / f"vsrprune-{name}-{os.getuid()}.lock").open("a")


class Work:
    """The right to compute. Call `give_way` between two steps, so that a measurement need not wait for the end."""

    def __init__(self, gate: IO[str], work: IO[str]) -> None:
        self._gate, self._work = gate, work

    def give_way(self) -> None:
        """Return at once, or after the measurement that waits. Costs microseconds when none does."""
        # The gate is closed only while someone times or waits to: one system call tells, and nothing is given up.
        if _try(self._gate, fcntl.LOCK_SH):
            fcntl.flock(self._gate, fcntl.LOCK_UN)
            return
        fcntl.flock(self._work, fcntl.LOCK_UN)
        self._enter()

    def _enter(self) -> None:
        # In this order: whoever takes times holds the gate first, so nobody slips in between its two locks.
        fcntl.flock(self._gate, fcntl.LOCK_SH)
        fcntl.flock(self._work, fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)


@contextlib.contextmanager
def working() -> Iterator[Work]:
    """Compute while others may compute too; a measurement under way ends first."""
    with _lock_file("gate") as gate, _lock_file("work") as work:
        mine = Work(gate, work)
        mine._enter()
        yield mine


@contextlib.contextmanager
def measuring(on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Take times while no other process of this user computes or times here; `on_wait` is called if it has to wait."""
    with _lock_file("gate") as gate, _lock_file("work") as work:
        told = False
        for lock in (gate, work):
            if not _try(lock, fcntl.LOCK_EX):
                if not told:
                    on_wait()
                    told = True
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_measuring() -> bool:
    """Whether someone times here, or waits to."""
    with _lock_file("gate") as gate:
        return not _try(gate, fcntl.LOCK_SH)


def _try(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
