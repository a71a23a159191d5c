"""What a tracker is: where a job's curves and results are mirrored, while the files of the job are the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vsrprune.results.result import METRICS, Result
from vsrprune.store.atomic import parse_json


@dataclass(frozen=True)
class RunLabel:
    """How a run is found in W&B: its name, the group it is listed under, its kind of work, the project and its owner.

    `job_type` is a job's method, `search` or `trial`. `entity` is the project's owner, empty for the user. `tags` are
    cut to the length that W&B takes; empty and repeated ones are left out. `run_id` is the run's own name in W&B: a run
    that is started again under it goes on; empty for WANDB_RUN_ID, or a new one.
    """

    name: str
    group: str
    job_type: str
    project: str
    entity: str = ""
    tags: tuple[str, ...] = ()
    run_id: str = ""


class Tracker(Protocol):
    """Where a job's curves and results are mirrored."""

    def row(self, row: Mapping[str, Any]) -> None:
        """One row of metrics.jsonl, as soon as it is written."""

    def finished(self, result: Result, folder: Path) -> None:
        """The job's result; `folder` holds what was written beside it."""

    def close(self, failed: bool) -> None:
        """The job has ended; `failed` unless it came to its end."""


class Parts:
    """Calls of a tracker, each on its own: what fails is said once, costs that part alone, and never the job.

    name: of the tracker, as a user knows it.
    """

    def __init__(self, name: str, warn: Callable[[str], None]) -> None:
        self._name, self._warn = name, warn
        self.lost: set[str] = set()
        self._said: set[str] = set()

    def call(self, part: str, call: Callable[[], None]) -> None:
        """Call `call`, unless that part has failed before."""
        if part in self.lost:
            return
        try:
            call()
        except Exception as error:  # wandb raises many kinds; none is worth a job
            self.lost.add(part)
            reason = one_line(error)
            if reason not in self._said:  # once wandb's own process is gone, every part fails for the same reason
                self._said.add(reason)
                self._warn(f"tracking: {self._name} did not take the {part} ({reason}); going on without")


def written_rows(folder: Path) -> Iterator[Mapping[str, Any]]:
    """All rows of the job in `folder`, also those of stages that another job or an earlier process trained."""
    path = folder / METRICS
    for line in path.read_text().splitlines() if path.is_file() else []:
        yield parse_json(line)


def values_of(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The values of a row by name."""
    return ((name, value) for name, value in row.items() if name not in ("stage", "step"))


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
