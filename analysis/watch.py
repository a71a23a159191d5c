"""A live table of jobs: what runs, how far it is, when it will be done, what came out.

    python analysis/watch.py RUNS [RUNS ...] [--every 2] [--once]

Reads the files that jobs write (state.json, failure.json, result.json, metrics.jsonl), whatever machine they run on.
`--once`, or an output that is no terminal, prints one table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vsrprune.errors import UserError
from vsrprune.host.failures import CARD, START, STATE, FailureCard
from vsrprune.results.result import METRICS, RESULT, Result
from vsrprune.store.lease import Holder

RUNNING, WAITING, DONE, FAILED, STOPPED = "running", "waiting", "done", "failed", "stopped"
STATES = {RUNNING: "cyan", WAITING: "dim", DONE: "green", FAILED: "bold red", STOPPED: "yellow"}
QUIET_S = 600  # without a sign of a job whose process cannot be looked at: the table says so
WINDOW = 30  # looks over which the rate of a job is taken
TAIL_BYTES = 1 << 16  # of metrics.jsonl
FAILURES_SHOWN = 3
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, UserError)  # of a file being written, or torn


# Files -> rows


@dataclass(frozen=True)
class JobRow:
    """A job as its files tell it. changed: when it last gave a sign (seconds of the clock). step counts from 0.

    since, since_step: when and where its process began to train the stage. left: seconds to the stage's end.
    elsewhere: its process cannot be looked at from here.
    """

    folder: Path
    state: str
    changed: float = 0.0
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
    card = _card(folder) if _changed(folder / CARD) >= max(written, 1.0) else None
    process = _process(state or {})
    gone = process is not None and process.is_dead
    if card is not None:
        cause = " ".join(card.cause.split())
        return JobRow(folder, FAILED, _changed(folder / CARD), card.stage, card.step, cause=cause)
    if written == 0.0 or (gone and _changed(folder / RESULT) >= written):
        return _finished(folder)
    told = state or {}
    row = JobRow(
        folder,
        RUNNING,
        written,
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
    row = JobRow(folder, DONE, max(_changed(folder / RESULT), _changed(folder / METRICS)))
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
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = stream.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return float(json.loads(line)["loss_reconstruction"])
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
        value = json.loads(path.read_text())
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
    return max(0.0, (row.steps - 1 - row.step) / steps_per_second - max(0.0, now - row.changed))


# Rows -> table


@dataclass(frozen=True)
class Column:
    """A column: its heading, its text for a row, and how it is aligned."""

    heading: str
    text: Callable[[JobRow, float], str]
    justify: str = "right"


def duration(seconds: float) -> str:
    """Six characters at most: 8s, 2m10s, 1h05m, 3d04h."""
    whole = round(seconds)
    for size, unit, small, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // small:02d}{name}"
    return f"{whole}s"


def short(number: int) -> str:
    """1200, 12k, 300k."""
    return str(number) if number < 10_000 else f"{number // 1000}k"


def _steps(row: JobRow, now: float) -> str:
    if row.state == FAILED:
        return short(row.step) if row.step else ""
    return f"{short(_done(row))}/{short(row.steps)}" if row.steps else ""


def _percent(row: JobRow, now: float) -> str:
    return f"{100 * _done(row) // row.steps}%" if row.steps else ""


def _done(row: JobRow) -> int:
    """Steps that are done; none is known of before the first row of the stage."""
    return row.step + 1 if row.since else 0


def _left(row: JobRow, now: float) -> str:
    if row.state != RUNNING:
        return ""
    if row.elsewhere and now - row.changed >= QUIET_S:
        return f"? {duration(now - row.changed)}"
    return "" if row.left is None else duration(row.left)


# In the order in which they stand. Where there is no room for all, those named first below stay.
COLUMNS = (
    Column("state", lambda row, now: row.state, "left"),
    Column("stage", lambda row, now: row.stage, "left"),
    Column("step", _steps),
    Column("done", _percent),
    Column("left", _left),
    Column("loss", lambda row, now: "" if row.loss is None else f"{row.loss:.4f}"),
    Column("PSNR", lambda row, now: "" if row.psnr is None else f"{row.psnr:.2f}"),
    Column("MACs", lambda row, now: "" if row.macs_kept is None else f"{row.macs_kept:.0%}"),
)
IMPORTANCE = ("state", "PSNR", "left", "step", "stage", "MACs", "loss", "done")
JOB_WIDTH = 16  # that a job's name keeps where the terminal is not narrower still


def split_names(names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells that tell jobs apart: a column per knob if all names are of the same knobs."""
    parsed = [[item.split("=", 1) for item in name.split(",")] for name in names]
    knobs = {tuple(item[0] for item in items) for items in parsed}
    if len(knobs) == 1 and all(len(item) == 2 for items in parsed for item in items):
        headings = [knob.rpartition(".")[2] for knob in knobs.pop()]
        return headings, [[item[1] for item in items] for items in parsed]
    return ["job"], [[name.replace(",", " ")] for name in names]


def shortened(text: str, width: int) -> str:
    """`text`, its middle left out if it is longer than `width`."""
    if len(text) <= width:
        return text
    tail = max(0, (width - 1) // 2)
    return text[: max(0, width - 1 - tail)] + "…" + (text[-tail:] if tail else "")


def job_table(rows: Sequence[JobRow], now: float, width: int) -> Table:
    """The jobs of one folder, at most `width` characters wide; columns without content are left out."""
    headings, names = split_names([row.folder.name for row in rows])
    cells = {column.heading: [column.text(row, now) for row in rows] for column in COLUMNS}
    widths = {name: max(map(len, (name, *texts))) + 1 for name, texts in cells.items() if any(texts)}
    kept: list[str] = []
    room = width - min(JOB_WIDTH, width // 2, max(len(row.folder.name) for row in rows))
    for name in IMPORTANCE:
        if name in widths and widths[name] <= room:
            kept.append(name)
            room -= widths[name]
    room = width - sum(widths[name] for name in kept)
    if sum(max(map(len, texts)) + 1 for texts in zip(headings, *names, strict=True)) - 1 > room:
        headings, names = ["job"], [[row.folder.name.replace(",", " ")] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for column in COLUMNS:
        if column.heading in kept:
            table.add_column(column.heading, justify=column.justify, no_wrap=True)  # type: ignore[arg-type]
    for number, (row, parts) in enumerate(zip(rows, names, strict=True)):
        line = [Text(shortened(part, room) if len(parts) == 1 else part) for part in parts]
        line += [
            Text(cells[column.heading][number], style=STATES[row.state] if column.heading == "state" else "")
            for column in COLUMNS
            if column.heading in kept
        ]
        table.add_row(*line)
    return table


def summary(rows: Sequence[JobRow]) -> str:
    """36 jobs: 2 running, 30 waiting, 4 done."""
    counts = Counter(row.state for row in rows)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return f"{len(rows)} job{'s' if len(rows) != 1 else ''}{': ' if parts else ''}{', '.join(parts)}"


def most_telling(rows: Sequence[JobRow], room: int) -> list[JobRow]:
    """At most `room` rows, in their order: what runs, what broke, then what changed last."""
    ranks = {RUNNING: 0, FAILED: 1, STOPPED: 1}
    telling = sorted(rows, key=lambda row: (ranks.get(row.state, 2), -row.changed))
    chosen = {row.folder for row in telling[: max(0, room)]}
    return [row for row in rows if row.folder in chosen]


NOT_SHOWN = " ({} not shown)"
HEADING_LINES = 4  # of one folder's table: its name, the headings, a rule, an empty line


def draw(rows: Sequence[JobRow], now: float, width: int, height: int | None = None) -> RenderableType:
    """The tables of all folders, the counts, and why jobs failed; in `height` lines if given."""
    failures = [row for row in rows if row.state == FAILED]
    shown, counts = list(rows), summary(rows)
    if height is not None:
        failures = failures[:FAILURES_SHOWN]
        room = height - 1 - len(Text(counts + NOT_SHOWN).wrap(Console(width=width), width)) - len(failures)
        while shown and len(shown) + HEADING_LINES * len({row.folder.parent for row in shown}) > room:
            shown = most_telling(shown, len(shown) - 1)
    parts: list[RenderableType] = []
    for parent in dict.fromkeys(row.folder.parent for row in shown):
        group = [row for row in shown if row.folder.parent == parent]
        parts += [Text(shortened(parent.name, width), style="bold"), job_table(group, now, width), Text()]
    parts.append(Text(counts + (NOT_SHOWN.format(len(rows) - len(shown)) if len(shown) < len(rows) else "")))
    for row in failures:
        reason = Text(f"failed: {row.folder.name} in {row.stage}: {row.cause}", style=STATES[FAILED])
        if height is not None:
            reason.truncate(width, overflow="ellipsis")
        parts.append(reason)
    return Group(*parts)


def main() -> int:
    """Draw the table once, or until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A live table of jobs")
    parser.add_argument("runs", nargs="+", type=Path, help="folders below which run.py writes its jobs")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: 2)")
    parser.add_argument("--once", action="store_true", help="print one table and leave")
    arguments = parser.parse_args()
    if not arguments.every > 0:
        print(f"error: --every must be more than 0; got {arguments.every:g}", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    watch = Watch(arguments.runs)
    if arguments.once or not console.is_terminal:
        now = time.time()
        console.print(draw(watch.look(now), now, console.width))
        return 0
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                now = time.time()
                live.update(draw(watch.look(now), now, console.width, console.height), refresh=True)
                time.sleep(arguments.every)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
