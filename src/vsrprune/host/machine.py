"""Locks between computing and timing: a measurement waits until its device is quiet, and training pauses for it.

Otherwise a sweep of several jobs at a time would time itself.

Each device, the CPU and every card, has two lock files, in a folder that no other user can enter. Whoever computes
holds `work` shared; whoever times holds `gate` and then `work` alone. Everyone passes `gate` before taking `work`, so a
measurement that waits is next, and nobody starves.

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

from vsrprune.store.locks import opened, private_folder, try_lock, wait_for_lock

WITHOUT = (  # what a user can do who does not want to wait
    "it gives way when it ends or between two steps; to go without, at the price of disturbed times, start this command"
    " with XDG_RUNTIME_DIR=$(mktemp -d)"
)


def nothing() -> None:
    """Do nothing."""


class _Lock:
    """A lock file."""

    def __init__(self, name: str, card: str, stack: contextlib.ExitStack) -> None:
        # On this machine's disk: a lock on a shared file system would stop other machines.
        device = f"-{card.replace('/', '_')}" if card else ""  # older drivers name parts of a GPU with slashes
        self._path = lock_folder() / f"{name}{device}.lock"
        self._handle = stack.enter_context(opened(self._path))

    def take(self, kind: int, on_wait: Callable[[], None]) -> None:
        """Hold it, shared or alone; `on_wait` is called if that is not possible at once."""
        if not self.try_take(kind):
            on_wait()
            wait_for_lock(self._handle, kind, self._path, WITHOUT)

    def try_take(self, kind: int) -> bool:
        """Try to hold it; whether that was possible at once."""
        return try_lock(self._handle, kind, self._path)

    def release(self) -> None:
        """Let others have it."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)


def lock_folder() -> Path:
    """Where the locks of this user on this machine lie: XDG_RUNTIME_DIR, or else the folder for temporary files.

    Raises UserError if somebody else has put something in its place.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.access(runtime, os.W_OK):
        return private_folder(Path(runtime) / "vsrprune")
    return private_folder(Path(tempfile.gettempdir()) / f"vsrprune-{os.getuid()}")


class _Device:
    """The two locks of a device; `card` is its UUID, empty for the CPU."""

    def __init__(self, card: str, stack: contextlib.ExitStack) -> None:
        self._gate, self._work = (_Lock(name, card, stack) for name in ("gate", "work"))

    def is_quiet(self) -> bool:
        """Whether nobody times here or waits to. Nothing is given up; it is one system call."""
        if not self._gate.try_take(fcntl.LOCK_SH):
            return False
        self._gate.release()
        return True

    def enter(self, on_wait: Callable[[], None] = nothing) -> None:
        """Hold it as one of many who compute."""
        # In this order: whoever takes times holds the gate first, so nobody slips in between its two locks.
        self._gate.take(fcntl.LOCK_SH, on_wait)
        self._work.take(fcntl.LOCK_SH, on_wait)
        self._gate.release()

    def leave(self) -> None:
        """Let those who time have it."""
        self._work.release()

    def own(self, on_wait: Callable[[], None]) -> None:
        """Hold it alone."""
        self._gate.take(fcntl.LOCK_EX, on_wait)
        self._work.take(fcntl.LOCK_EX, on_wait)


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
