"""One comparison at a time, in a thread of its own, with its progress and a way to end it."""

from __future__ import annotations

import shutil
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from vsrprune.errors import UserError
from vsrprune.host.causes import first_line, known_cause

if TYPE_CHECKING:
    from vsrprune.use.beside import Beside, BesideRequest, Report

LESS = "take a clip of smaller frames, or src/upscale.py with a smaller --tile or --window"


class CancelledError(Exception):
    """The user ended the comparison."""


@dataclass(frozen=True)
class Attempt:
    """A comparison: what it is of, how far it is, and what came of it.

    clip: the id. state: `running`, `done`, `failed` or `cancelled`. done, total: of the stage; total is 0 where it is
    not known. error: one line.
    """

    name: str
    job: str
    clip: str
    state: str = "running"
    stage: str = "starting"
    done: int = 0
    total: int = 0
    error: str = ""
    found: Beside | None = None


class Worker:
    """Runs comparisons one after another; what the last one made lies in `folder` / its name."""

    def __init__(self, folder: Path, compare: Callable[[BesideRequest, Report], Beside] | None = None) -> None:
        self._folder, self._compare = folder, compare
        self._lock, self._ended = Lock(), Event()
        self._run: Attempt | None = None
        self._thread: Thread | None = None

    @property
    def run(self) -> Attempt | None:
        """The last comparison; None before the first."""
        return self._run

    def start(self, job: str, clip: str, request: Callable[[Path], BesideRequest]) -> Attempt:
        """Begin; `request` is made for a new folder. Raises UserError while another comparison runs."""
        with self._lock:
            if self._run is not None and self._run.state == "running":
                raise UserError("another comparison is running; wait for it, or cancel it")
            for old in self._folder.iterdir():
                shutil.rmtree(old, ignore_errors=True)
            self._ended = Event()
            self._run = Attempt(uuid.uuid4().hex, job, clip)
            folder = self._folder / self._run.name
            folder.mkdir()
            self._thread = Thread(target=self._work, args=(request, folder), name="comparison", daemon=True)
            self._thread.start()
            return self._run

    def cancel(self) -> None:
        """Ask the comparison to end, which it does after the frame that it is at."""
        self._ended.set()

    def close(self) -> None:
        """End what runs, and wait for it."""
        self.cancel()
        if self._thread is not None:
            self._thread.join()

    def _change(self, **changes: object) -> None:
        assert self._run is not None
        self._run = replace(self._run, **changes)  # type: ignore[arg-type]

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._ended.is_set():
            raise CancelledError
        self._change(stage=stage, done=done, total=total)

    def _work(self, request: Callable[[Path], BesideRequest], folder: Path) -> None:
        try:
            from vsrprune.use.beside import put_beside  # here: importing torch takes seconds

            found = (self._compare or put_beside)(request(folder), self._report)
        except CancelledError:
            shutil.rmtree(folder, ignore_errors=True)
            self._change(state="cancelled")
        except Exception as error:  # the server lives on, whatever it was
            shutil.rmtree(folder, ignore_errors=True)
            self._change(state="failed", error=explained_error(error))
        else:
            self._change(state="done", found=found)


def explained_error(error: Exception) -> str:
    """One line for the page. What no user can mend goes to the terminal with its traceback as well."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    cause = known_cause(error)
    if cause is not None and cause.is_memory:
        return f"{cause.cause}: {first_line(error)}; {LESS}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the disk'}: {error.strerror}"
    traceback.print_exception(error)
    return f"this is a defect, and the terminal shows where: {first_line(error)}"
