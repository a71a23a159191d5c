"""Progress of long work: a bar with the remaining time on a terminal, a few lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_LINES = 4  # per stage, where the output is not a terminal


class StageProgress:
    """Shows a stage's name, how many steps are done, and the time that is left; use it as a context manager."""

    def __init__(self, stage: str, steps: int) -> None:
        self._stage, self._steps, self._done, self._first = stage, steps, 0, 0
        self._progress = Progress(
            TextColumn("  {task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self._task = self._progress.add_task(stage, total=steps, note="")

    def __enter__(self) -> StageProgress:
        self._started = time.monotonic()
        self._progress.start()
        return self

    def start_at(self, done: int) -> None:
        """Say how many steps an earlier process has done: what they took says nothing of the time that is left."""
        self._first = self._done = done
        self._started = time.monotonic()
        self._progress.reset(self._task, completed=done)

    def update(self, done: int, note: str = "") -> None:
        """Set the number of steps that are done, and a short note that is shown with it."""
        if self._progress.disable:
            self._log(done, note)
        else:
            self._progress.update(self._task, completed=done, note=note)
        self._done = done

    def _log(self, done: int, note: str) -> None:
        # Only when a quarter is passed, however many steps an update takes; the end has a line of its own.
        quarter = LOG_LINES * done // self._steps
        if quarter > LOG_LINES * self._done // self._steps and quarter < LOG_LINES:
            elapsed = time.monotonic() - self._started
            left = elapsed / (done - self._first) * (self._steps - done)
            print(f"  {self._stage:<10} {done}/{self._steps}, {left:.0f} s left{note and f', {note}'}", flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
