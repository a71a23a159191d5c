"""Jobs as their files tell them while they run: what runs, how far it is, when it will be done. Files -> rows."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from vsrprune.errors import UserError
from vsrprune.host.failures import CARD, START, STATE, FailureCard
from vsrprune.results.result import METRICS, RESULT, Result
from vsrprune.store.atomic import parse_json, read_json
from vsrprune.store.lease import Holder

RUNNING, WAITING, DONE, FAILED, STOPPED = "running", "waiting", "done", "failed", "stopped"
STARTED = ".hydra/overrides.yaml"  # which a job writes when it starts
TIMED = 8  # jobs of a sweep by which the others are timed: those that were started last
WINDOW = 30  # looks over which the rate of a job is taken
TAIL_BYTES = 1 << 16  # of metrics.jsonl
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, UserError)  # of a file being written, or torn


@dataclass(frozen=True)
class JobRow:
    """A job as its files tell it.

    `changed` is when it last gave a sign, `begun` when it was last started, in seconds of the clock; `step` counts from
    0. `since` and `since_step` say when and where its process began to train the stage. `left` is the number of seconds
    to the stage's end. The process of a job that runs `elsewhere` cannot be looked at from here.
    """

    folder: Path
    state: str
    changed: float = 0.0
    begun: float = 0.0
    stage: str = ""
    step: int = 0
    steps: int = 0
    since: float = 0.0
    since_step: int = 0
    loss: float | None = None
    psnr: float | None = None
    macs_kept: float | None = None
    left: float | None = None
    elsewhere: bool = False
    cause: str = ""


def job_folders(roots: Sequence[Path]) -> Iterator[Path]:
    """The folders of jobs at or below `roots`, in natural order."""
    found: set[Path] = set()
    for root in roots:
        for folder, below, files in os.walk(root):
            if {STATE, CARD, RESULT} & set(files) or (METRICS in files and ".hydra" in below):
                found.add(Path(folder))
                # No job lies within another, and its folder holds many files of other kinds.
                below.clear()
            else:
                below[:] = [name for name in below if not name.startswith(".")]
    return iter(sorted(found, key=lambda folder: _natural(str(folder))))


def _natural(text: str) -> list[tuple[float, str]]:
    """Sorts 0.5 before 0.25e1 and job2 before job10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(float(part), "") if number % 2 else (-1.0, part) for number, part in enumerate(parts)]


def read_job(folder: Path) -> JobRow:
    """The job in `folder`, without the time that is left."""
    state = _json(folder / STATE)
    written = _changed(folder / STATE)
    # A card that is older than the state is of an earlier attempt. A file that is not there has the time 0, hence the
    # 1.
    card = _card(folder) if _changed(folder / CARD) >= max(written, 1.0) else None
    process = _process(state or {})
    gone = process is not None and process.is_dead
    if card is not None:
        cause = " ".join(card.cause.split())
        return JobRow(folder, FAILED, _changed(folder / CARD), stage=card.stage, step=card.step, cause=cause)
    # A process that ended after it wrote a result has finished; one that ended before was stopped.
    if written == 0.0 or (gone and _changed(folder / RESULT) >= written):
        return _finished(folder)
    told = state or {}
    row = JobRow(
        folder,
        RUNNING,
        written,
        _changed(folder / STARTED),
        stage=str(told.get("stage", "")),
        step=int(_number(told.get("step")) or 0),
        steps=int(_number(told.get("steps")) or 0),
        since=_number(told.get("since")) or 0.0,
        since_step=int(_number(told.get("since_step")) or 0),
        loss=_number(told.get("loss")),
        elsewhere=process is None or process.host != Holder.this_process().host,
    )
    if gone:
        return replace(row, state=STOPPED, stage="" if row.stage == START else row.stage)
    return replace(row, state=WAITING, stage="") if told.get("waiting") else row


def _finished(folder: Path) -> JobRow:
    """A job that is done; one that `until` stopped early has curves and no result."""
    changed = max(_changed(folder / RESULT), _changed(folder / METRICS))
    row = JobRow(folder, DONE, changed, _changed(folder / STARTED))
    psnr, macs_kept = _outcome(folder, _changed(folder / RESULT))
    return replace(row, psnr=psnr, macs_kept=macs_kept, loss=_last_loss(folder / METRICS, _changed(folder / METRICS)))


@lru_cache(maxsize=4096)
def _outcome(folder: Path, changed: float) -> tuple[float | None, float | None]:
    """PSNR in dB and share of the MACs; read again only if the file changed."""
    try:
        result = Result.load(folder)
        return result.quality["finetuned"].psnr, result.macs_kept
    except BROKEN:
        return None, None


@lru_cache(maxsize=4096)
def _last_loss(path: Path, changed: float) -> float | None:
    """The loss of the last whole row of metrics.jsonl that has one."""
    try:
        with path.open("rb") as stream:
            # Curves of long trainings have many megabytes, and every look of a live table comes through here.
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = stream.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return float(parse_json(line.decode())["loss_reconstruction"])
        except BROKEN:
            continue
    return None


def _card(folder: Path) -> FailureCard | None:
    try:
        return FailureCard.load(folder)
    except BROKEN:
        return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = read_json(path)
    except BROKEN:
        return None
    return value if isinstance(value, dict) else None


def _changed(path: Path) -> float:
    """When the file was last written; 0 if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _process(state: Mapping[str, Any]) -> Holder | None:
    """The process that wrote state.json."""
    try:
        return Holder(**state["process"])
    except BROKEN:
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


# Rates and the time that is left


@dataclass
class Watch:
    """Jobs looked at again and again: their rate is taken from what was seen, and at first from their files."""

    roots: Sequence[Path]
    _seen: dict[tuple[Path, str], deque[tuple[float, int]]] = field(default_factory=dict)
    _last: dict[Path, JobRow] = field(default_factory=dict)

    def look(self, now: float) -> list[JobRow]:
        """All jobs as they are now."""
        rows = [self._with_left(self._mended(read_job(folder)), now) for folder in job_folders(self.roots)]
        self._last = {row.folder: row for row in rows}
        return rows

    def _mended(self, row: JobRow) -> JobRow:
        """A state.json that is just being written is taken as it was at the last look."""
        before = self._last.get(row.folder)
        return before if row.state == RUNNING and not row.stage and before is not None else row

    def _with_left(self, row: JobRow, now: float) -> JobRow:
        if row.state != RUNNING or not row.steps or not row.since:
            return row
        seen = self._seen.setdefault((row.folder, row.stage), deque(maxlen=WINDOW))
        if not seen or seen[-1] != (row.changed, row.step):
            seen.append((row.changed, row.step))
        return replace(row, left=seconds_left(row, rate(row, seen), now))


def rate(row: JobRow, seen: Sequence[tuple[float, int]]) -> float | None:
    """Steps per second: over what was seen, else since the job's process began the stage; None if unknown."""
    for then, step in (seen[0] if seen else (row.since, row.since_step), (row.since, row.since_step)):
        if row.step > step and row.changed > then:
            return (row.step - step) / (row.changed - then)
    return None


def seconds_left(row: JobRow, steps_per_second: float | None, now: float) -> float | None:
    """Seconds until the stage's last step."""
    if not steps_per_second:
        return None
    # The job has gone on since its last sign, so that time is taken off; a job that is quiet for long counts down to 0.
    return max(0.0, (row.steps - 1 - row.step) / steps_per_second - max(0.0, now - row.changed))


def sweep_left(rows: Sequence[JobRow], now: float) -> float | None:
    """Seconds until all jobs of a sweep are done, at the pace of those that it has done; None before the first.

    As many as run now are taken to run until then.
    """
    running, waiting = ([row for row in rows if row.state == state] for state in (RUNNING, WAITING))
    # A sweep that was started again takes over what it did before, whose time is none of its own.
    since = min((row.changed for row in waiting), default=0.0)
    done = [row for row in rows if row.state == DONE and row.begun and row.begun >= since]
    times = [row.changed - row.begun for row in sorted(done, key=lambda row: row.begun)[-TIMED:]]
    if not times:
        return None
    usual = median(times)
    left = [max(row.left or 0.0, usual - (now - row.begun) if row.begun else 0.0) for row in running]
    return max([(len(waiting) * usual + sum(left)) / max(1, len(running)), *left])
