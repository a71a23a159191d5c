"""The trackers by name, and those of a job at once. A tracker's library is imported when a job starts it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vsrprune.errors import UserError
from vsrprune.host.tracking import csv_file, event_files, wandb_runs
from vsrprune.host.tracking.tracker import RunLabel, Tracker
from vsrprune.results.result import Result

Start = Callable[[str, RunLabel, Mapping[str, Any], Path, Callable[[str], None]], Tracker | None]

# In the order of the knob's choices.
TRACKERS: dict[str, Start] = {
    "wandb": wandb_runs.start_wandb,
    "tensorboard": event_files.start_tensorboard,
    "csv": csv_file.start_csv,
}
FILES = {"wandb": f"{wandb_runs.WANDB}/*run-*", "tensorboard": event_files.PATTERN, "csv": csv_file.FILE}
EXTRAS = {"tensorboard": "tensorboard"}  # the libraries that do not come with the installation, by tracker


class Trackers:
    """Several trackers as one; none of them for tracking=none."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def row(self, row: Mapping[str, Any]) -> None:
        """Hand a row to each."""
        for tracker in self._trackers:
            tracker.row(row)

    def finished(self, result: Result, folder: Path) -> None:
        """Hand the result to each."""
        for tracker in self._trackers:
            tracker.finished(result, folder)

    def close(self, failed: bool) -> None:
        """End each."""
        for tracker in self._trackers:
            tracker.close(failed)


@contextlib.contextmanager
def tracked(
    to: Iterable[str],
    mode: str,
    label: RunLabel,
    config: Mapping[str, Any],
    folder: Path,
    warn: Callable[[str], None],
) -> Iterator[Trackers]:
    """The trackers `to` of one job; `mode` is W&B's."""
    started = [TRACKERS[name](mode, label, config, folder, warn) for name in to]
    # Failed until the body has come to its end: Ctrl-C and SystemExit are no Exception, and count too.
    trackers, failed = Trackers([tracker for tracker in started if tracker is not None]), True
    try:
        yield trackers
        failed = False
    finally:
        trackers.close(failed)


def is_tracked(folder: Path, name: str) -> bool:
    """Whether that tracker has written for the job in `folder`."""
    return any(folder.glob(FILES[name]))


def check_installed(to: Iterable[str]) -> None:
    """Raise UserError for a tracker whose library is not installed; imports nothing."""
    for name in to:
        if name in EXTRAS and find_spec(EXTRAS[name]) is None:
            raise UserError(
                f"tracking.to={name}: {EXTRAS[name]} is not installed: pip install -e '.[{EXTRAS[name]}]', or leave"
                f" {name} out"
            )
