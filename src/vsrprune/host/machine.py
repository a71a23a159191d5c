"""Locks between computing and timing: a measurement waits until its device is quiet, and training pauses for it.

Otherwise a sweep of several jobs at a time would time itself.

Each device, the CPU and every card, has two lock files per user in the system's folder for temporary files. Whoever
computes holds `work` shared; whoever times holds `gate` and then `work` alone. Everyone passes `gate` before taking
`work`, so a measurement that waits is next, and nobody starves.

Who uses a card uses the CPU beside it. So a measurement on the CPU stops everyone, and one on a card stops those on
this card: it holds the CPU as a worker does. Devices are always taken in one order, the CPU first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO


def nothing() -> None:
    """Do nothing."""


class _Device:
    """The two locks of a device; `card` is its UUID, empty for the CPU."""

    def __init__(self, card: str, stack: contextlib.ExitStack) -> None:
        self._gate, self._work = (stack.enter_context(_lock_file(name, card)) for name in ("gate", "work"))

    def is_quiet(self) -> bool:
        """Whether nobody times here or waits to. Nothing is given up; it is one system call."""
        if not _try(self._gate, fcntl.LOCK_SH):
            return False
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        return True

    def enter(self, on_wait: Callable[[], None] = nothing) -> None:
        """Hold it as one of many who compute."""
        # In this order: whoever takes times holds the gate first, so nobody slips in between its two locks.
        _take(self._gate, fcntl.LOCK_SH, on_wait)
        _take(self._work, fcntl.LOCK_SH, on_wait)
        fcntl.flock(self._gate, fcntl.LOCK_UN)

    def leave(self) -> None:
        """Let those who time have it."""
        fcntl.flock(self._work, fcntl.LOCK_UN)

    def own(self, on_wait: Callable[[], None]) -> None:
        """Hold it alone."""
        _take(self._gate, fcntl.LOCK_EX, on_wait)
        _take(self._work, fcntl.LOCK_EX, on_wait)


def _lock_file(name: str, card: str) -> IO[str]:
    # On this machine's disk and per user: a lock on a shared file system would stop other machines, and files of other
    # users cannot be opened.
    device = f"-{card.replace('/', '_')}" if card else ""  # older drivers name parts of a GPU with slashes
    return (Path(tempfile.gettempdir()) / f"vsrprune-{name}{device}-{os.getuid()}.lock").open("a")


class Work:
    """The right to compute. Call `give_way` between two steps, so that a measurement need not wait for the end."""

    def __init__(self, devices: Sequence[_Device], finish: Callable[[], None]) -> None:
        self._devices, self._finish = devices, finish

    def give_way(self) -> None:
        """Return at once, or after the measurement that waits. Costs microseconds when none does."""
        if all(device.is_quiet() for device in self._devices):
            return
        self._finish()  # a card computes on after its calls return, into the measurement
        for device in self._devices:
            device.leave()
        self._enter()

    def _enter(self) -> None:
        for device in self._devices:
            device.enter()


@contextlib.contextmanager
def working(cards: Sequence[str] = (), finish: Callable[[], None] = nothing) -> Iterator[Work]:
    """Compute while others may compute too; a measurement under way ends first.

    cards: UUIDs of the cards that are used beside the CPU. finish: waits until they have computed all that was asked.
    """
    with contextlib.ExitStack() as stack:
        mine = Work([_Device(card, stack) for card in ("", *sorted(cards))], finish)
        mine._enter()
        yield mine


@contextlib.contextmanager
def measuring(on_wait: Callable[[], None] = nothing, card: str = "") -> Iterator[None]:
    """Take times while no other process of this user computes or times on the card, or on the whole machine without.

    on_wait: called once if it has to wait. card: a UUID.
    """
    told: list[bool] = []

    def tell_once() -> None:
        if not told:
            told.append(True)
            on_wait()

    with contextlib.ExitStack() as stack:
        if card:
            _Device("", stack).enter(tell_once)
        _Device(card, stack).own(tell_once)
        yield


def is_measuring(card: str = "") -> bool:
    """Whether someone times on the card, or without one on the CPU, or waits to."""
    with contextlib.ExitStack() as stack:
        return not _Device(card, stack).is_quiet()


def _take(lock: IO[str], kind: int, on_wait: Callable[[], None]) -> None:
    if not _try(lock, kind):
        on_wait()
        fcntl.flock(lock, kind)


def _try(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
