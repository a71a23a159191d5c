"""Progress of long work: one line with what is left of it. On a terminal it moves, in a log it comes now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 600.0
LOOK_SECONDS = 1.0
BAR_WIDTH = 12  # leaves room for the words on a terminal of 80 columns

# Words for what is left, of the seconds that a stage has taken and of those that it still takes, None if unknown.
Left = Callable[[float, float | None], str]


def readable_time(seconds: float) -> str:
    """A duration with the unit that suits it."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def readable_rate(per_second: float) -> str:
    """Steps per second, or seconds per step where it takes more than one."""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


def left_alone(taken: float, left: float | None) -> str:
    """Words for what is left of a stage that belongs to nothing larger."""
    return "" if left is None else f"left: {readable_time(left)}"


class Now:
    """Says when a log is due a line: after 5 s, whenever the time has doubled, and every 10 minutes at least."""

    def __init__(self) -> None:
        self._due = FIRST_SECONDS

    def is_due(self, seconds: float) -> bool:
        """Whether a line is due so many seconds after the start; it counts as printed then."""
        if seconds < self._due:
            return False
        self._due = min(2 * seconds, seconds + LONGEST_SECONDS)
        return True


class Told(Protocol):
    """Whoever is told how far a stage is; `StageProgress` shows it."""

    def does(self, doing: str) -> None:
        """What is done at the moment, where no steps are counted."""

    def count(self, steps: int) -> None:
        """So many steps follow, from now on."""

    def start_at(self, done: int) -> None:
        """So many of them were done by an earlier process."""

    def update(self, done: int, note: str = "") -> None:
        """So many are done now."""


class Unshown:
    """For work that nobody watches."""

    def does(self, doing: str) -> None:
        """Nothing."""

    def count(self, steps: int) -> None:
        """Nothing."""

    def start_at(self, done: int) -> None:
        """Nothing."""

    def update(self, done: int, note: str = "") -> None:
        """Nothing."""


class StageProgress:
    """Shows a stage's name, how many steps are done, and the time that is left; use it as a context manager.

    A stage without steps shows what it does at the moment, and for how long it has gone on.
    """

    def __init__(
        self, stage: str, steps: int = 0, left: Left = left_alone, on_step: Callable[[int], None] = lambda done: None
    ) -> None:
        self._stage, self._steps, self._left, self._on_step = stage, steps, left, on_step
        self._done, self._first, self._doing, self._note = 0, 0, "", ""
        self._progress = Progress(
            TextColumn("  {task.description:<10}", table_column=Column(no_wrap=True, min_width=12)),
            BarColumn(BAR_WIDTH, table_column=Column(no_wrap=True, min_width=BAR_WIDTH)),
            _Words(self.words),
            console=Console(),
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self._task = self._progress.add_task(stage, total=steps or None)
        self._ended, self._printing = threading.Event(), threading.Lock()

    def __enter__(self) -> StageProgress:
        self._begin()
        self._progress.start()
        if self._progress.disable:
            # Of its own, since a step, an import or a measurement may take long without a word.
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def _begin(self) -> None:
        self._started, self._now = time.monotonic(), Now()

    def does(self, doing: str) -> None:
        """Say what is done at the moment, where no steps are counted."""
        self._doing = doing

    def count(self, steps: int) -> None:
        """Say that so many steps follow, from now on."""
        self._steps, self._done, self._first, self._doing = steps, 0, 0, ""
        self._begin()
        self._progress.update(self._task, total=steps, completed=0)

    def start_at(self, done: int) -> None:
        """Say how many steps an earlier process has done: what they took says nothing of the time that is left."""
        self._first = self._done = done
        if done:
            self._progress.console.print(f"  {self._stage:<10} goes on after step {done}", highlight=False)
        self._begin()
        self._progress.reset(self._task, completed=done)

    def update(self, done: int, note: str = "") -> None:
        """Set the number of steps that are done, and a short note that is shown with it."""
        self._done, self._note = done, note
        self._on_step(done)
        if self._progress.disable:
            self._log_if_due()
        else:
            self._progress.update(self._task, completed=done)

    def words(self) -> str:
        """What is shown beside the stage's name."""
        taken, fresh = time.monotonic() - self._started, self._done - self._first
        parts, left = [], None
        if self._steps:
            parts.append(f"{self._done}/{self._steps}")
        if fresh and taken:
            parts.append(readable_rate(fresh / taken))
            left = taken / fresh * (self._steps - self._done)
        else:
            parts.append(f"{readable_time(taken)} so far")
        # In this order, since a narrow terminal cuts off the end.
        return ", ".join(filter(None, (*parts, self._left(taken, left), self._note or self._doing)))

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._log_if_due()

    def _log_if_due(self) -> None:
        with self._printing:
            if not self._ended.is_set() and self._now.is_due(time.monotonic() - self._started):
                print(f"  {self._stage:<10} {self.words()}", flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._printing:  # no line comes after the last
            self._ended.set()
        self._progress.stop()


class _Words(ProgressColumn):
    max_refresh = 0.5

    def __init__(self, words: Callable[[], str]) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self._words = words

    def render(self, task: Task) -> Text:
        """The words of the moment."""
        return Text(self._words())
