"""The jobs of a sweep that are under way: how far they are, and what is left of the sweep."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vsrprune.errors import UserError
from vsrprune.host.failures import STATE, Reached
from vsrprune.host.outlook import Foretold
from vsrprune.host.progress import Now, readable_time
from vsrprune.jobs.collect import read_measured
from vsrprune.jobs.planning import missing_stages
from vsrprune.stages.job import Job
from vsrprune.store.store import Store

LOOK_SECONDS = 1.0  # between two looks of a terminal at the files of the running jobs


@dataclass
class SweepJob:
    """One job of a sweep: its name, its title with its number, its plan, its folder, and the command that runs it.

    to_make: keys of the stages that it had to make when it started.
    """

    name: str
    title: str
    job: Job
    folder: Path
    command: list[str]
    requeued: int = 0
    to_make: frozenset[str] = field(default_factory=frozenset)

    @property
    def number(self) -> str:
        """Such as "job 2/6"."""
        return self.title.partition(":")[0]


class SweepOutlook:
    """What is left of a sweep, by what was foretold of its stages, in seconds by their keys.

    Nothing is said of a sweep of which a stage was not foretold.
    """

    def __init__(self, foretold: Mapping[str, float], store: Store) -> None:
        self._foretold, self._store = foretold, store
        self._took, self._of = 0.0, 0.0

    def of_job(self, item: SweepJob, others: Sequence[SweepJob]) -> Foretold:
        """What is told to a job that starts, while the others wait for its end."""
        own = missing_stages(item.job, self._store)
        later = {key for other in others for key in missing_stages(other.job, self._store)} - set(own)
        if not all(key in self._foretold for key in (*own, *later)):
            return Foretold()
        seconds = sum(self._foretold[key] for key in later)
        return Foretold({key: self._foretold[key] for key in own}, seconds, self._took, self._of)

    def ended(self, item: SweepJob) -> None:
        """Take in what the stages of a finished job took."""
        with contextlib.suppress(UserError):  # `until` ends some jobs before they measure anything
            seconds = read_measured(item.folder).stage_seconds
            for plan in item.job.stages:
                if plan.key in item.to_make and plan.key in self._foretold and plan.name in seconds:
                    self._took, self._of = self._took + seconds[plan.name], self._of + self._foretold[plan.key]

    def left(self, running: Sequence[SweepJob], pending: Sequence[SweepJob], at_once: int) -> float | None:
        """Seconds until all jobs are done; None where that is not known.

        The pace is that of the stages that are made and of those that train: jobs side by side slow each other down.
        """
        if not self._foretold:  # on other machines; to look ten thousand jobs up would take most of a second
            return None
        missing = {key for item in (*running, *pending) for key in missing_stages(item.job, self._store)}
        if not all(key in self._foretold for key in missing):
            return None
        took, of, done, least, now = self._took, self._of, 0.0, 0.0, time.time()
        for item in running:
            reached = Reached.read(item.folder)
            under_way = [plan.key for plan in item.job.stages if plan.name == reached.stage and plan.key in missing]
            expected = sum(self._foretold[key] for key in under_way)
            done += expected * reached.share
            seconds = reached.step_seconds(now)
            if under_way and seconds is not None:
                took, of = took + seconds * reached.steps, of + expected
                least = max(least, seconds * (reached.steps - reached.step - 1))
        pace = took / of if of else 1.0
        at_work = max(1, min(at_once, len(running) + len(pending)))
        return max(least, pace * (sum(self._foretold[key] for key in missing) - done) / at_work)


class Display:
    """Shows lines of what is under way: in place on a terminal, now and then in a log."""

    def __init__(self) -> None:
        self._live = Live(console=Console(), auto_refresh=False, transient=True) if sys.stdout.isatty() else None
        self._began, self._looked, self._now = time.monotonic(), 0.0, Now()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the lower end of a terminal meanwhile."""
        with self._live or contextlib.nullcontext():
            yield

    def show(self, lines: Callable[[], Sequence[str]]) -> None:
        """Show the lines if it is time to."""
        now = time.monotonic()
        if self._live is not None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._live.update(Text("\n".join(lines()), no_wrap=True, overflow="ellipsis"), refresh=True)
        elif self._live is None and self._now.is_due(now - self._began):
            print("\n".join(lines()), flush=True)


def status_lines(
    outlook: SweepOutlook, running: Sequence[SweepJob], pending: Sequence[SweepJob], jobs: int, at_once: int
) -> list[str]:
    """A line for each running job, and one for the sweep."""
    left = outlook.left(running, pending, at_once)
    about = "" if left is None else f", left: about {readable_time(left)}"
    # Places are free, and nobody takes them: all wait for what a running job makes for them too.
    why = " for a stage that they share" if pending and len(running) < at_once else ""
    ended = jobs - len(running) - len(pending)
    return [
        *(f"  {item.number}  {_words(item.folder)}  ({item.name})" for item in running),
        f"  sweep    {ended} of {jobs} ended, {len(running)} running, {len(pending)} waiting{why}{about}",
    ]


def _words(folder: Path) -> str:
    # A job that is done removes its state, and its process ends a little later.
    return Reached.read(folder).words(time.time()) if (folder / STATE).is_file() else "ends"
