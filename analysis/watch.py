"""A live table of jobs: what runs, how far it is, when it will be done, what came out.

    python analysis/watch.py RUNS [RUNS ...] [--every 2] [--once]

Reads the files that jobs write (state.json, failure.json, result.json, metrics.jsonl), whatever machine they run on.
`--once`, or an output that is no terminal, prints one table. The time left of a whole sweep is told once a job is done.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis.output import check_runs
from analysis.watched_jobs import DONE, FAILED, RUNNING, STOPPED, WAITING, JobRow, Watch, sweep_left
from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.errors import UserError

STATES = {RUNNING: "cyan", WAITING: "dim", DONE: "green", FAILED: "bold red", STOPPED: "yellow"}
LONGEST_S = 86_400  # between two looks: a day
QUIET_S = 600  # without a sign of a job whose process cannot be looked at: the table says so
FAILURES_SHOWN = 3


@dataclass(frozen=True)
class StatusColumn:
    """A column: its heading, its text for a row, and how it is aligned."""

    heading: str
    text: Callable[[JobRow, float], str]
    justify: Literal["left", "right"] = "right"


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
    StatusColumn("state", lambda row, now: row.state, "left"),
    StatusColumn("stage", lambda row, now: row.stage, "left"),
    StatusColumn("step", _steps),
    StatusColumn("done", _percent),
    StatusColumn("left", _left),
    StatusColumn("loss", lambda row, now: "" if row.loss is None else f"{row.loss:.4f}"),
    StatusColumn("PSNR", lambda row, now: "" if row.psnr is None else f"{row.psnr:.2f}"),
    StatusColumn("MACs", lambda row, now: "" if row.macs_kept is None else f"{row.macs_kept:.0%}"),
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


def folder_table(rows: Sequence[JobRow], now: float, width: int) -> Table:
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
            table.add_column(column.heading, justify=column.justify, no_wrap=True)
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


def left_in_words(rows: Sequence[JobRow], now: float) -> str:
    """The time left of all sweeps, which run beside each other; empty where nothing runs or none can be told yet."""
    sweeps: dict[Path, list[JobRow]] = {}
    for row in rows:
        sweeps.setdefault(row.folder.parent, []).append(row)
    going = [jobs for jobs in sweeps.values() if any(row.state in (RUNNING, WAITING) for row in jobs)]
    times = [sweep_left(jobs, now) for jobs in going]
    known = [seconds for seconds in times if seconds is not None]
    if not known:
        return ""
    return f"; {'about' if len(known) == len(times) else 'at least'} {duration(max(known))} left"


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
    shown, counts = list(rows), summary(rows) + left_in_words(rows, now)
    if height is not None:
        failures = failures[:FAILURES_SHOWN]
        room = height - 1 - len(Text(counts + NOT_SHOWN).wrap(Console(width=width), width)) - len(failures)
        while shown and len(shown) + HEADING_LINES * len({row.folder.parent for row in shown}) > room:
            # One row at a time: where a folder loses its last row, its heading goes too and leaves room.
            shown = most_telling(shown, len(shown) - 1)
    parts: list[RenderableType] = []
    for parent in dict.fromkeys(row.folder.parent for row in shown):
        group = [row for row in shown if row.folder.parent == parent]
        parts += [Text(shortened(parent.name, width), style="bold"), folder_table(group, now, width), Text()]
    parts.append(Text(counts + (NOT_SHOWN.format(len(rows) - len(shown)) if len(shown) < len(rows) else "")))
    for row in failures:
        name = row.folder.name if height is None else shortened(row.folder.name, max(12, width // 3))
        reason = Text(f"failed: {name} in {row.stage}: {row.cause}", style=STATES[FAILED])
        if height is not None:
            reason.truncate(width, overflow="ellipsis")
        parts.append(reason)
    return Group(*parts)


def main() -> int:
    """Draw the table once, or until Ctrl-C."""
    parser = CommandParser(description="A live table of jobs")
    parser.add_argument("runs", nargs="+", type=Path, help="folders below which run.py writes its jobs")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: 2)")
    parser.add_argument("--once", action="store_true", help="print one table and leave")
    arguments = parser.parse_args()
    with explained():
        if not 0 < arguments.every <= LONGEST_S:
            raise UserError(f"--every must be more than 0, at most {LONGEST_S}; got {arguments.every:g}")
        watch = Watch([check_runs(folder) for folder in arguments.runs])
        if not watch.look(time.time()):
            folders = ", ".join(map(str, arguments.runs))
            raise UserError(f"nothing to watch below {folders}: no job was started there; run.py writes into runs/")
    console = Console(highlight=False)
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
