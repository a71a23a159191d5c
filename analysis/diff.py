"""What two runs differ in, in the terminal: configuration, stages, results with their interval, layers.

    python analysis/diff.py JOB JOB [--among RUNS ...]
    python analysis/diff.py runs/latest                 a sweep of two jobs

JOB is a folder that run.py wrote. An interval needs more dense networks than one: replicates of both settings are
looked for beside the two jobs, or below the folders that --among names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis.groups import grouped
from analysis.output import check_runs
from analysis.pairs import WORDS, setting_line, stages_line
from analysis.report_data import MEASURES, configuration, differing, machine, measure_label, run_table
from analysis.report_html import MISSING, format_number
from analysis.runs import Run, Runs, load_runs
from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.errors import UserError
from vsrprune.results.measured import timing_notes
from vsrprune.results.replicates import psnr_difference
from vsrprune.results.result import RESULT

LAYERS_SHOWN = 10
SHOWN = 8  # of the jobs that could be meant
SAME = "="
MINUS = "\N{MINUS SIGN}"  # as in numbers of the results


def job_in(found: Runs, folder: Path) -> Run:
    """The run in a folder, or the same run in another. Raises UserError for one that has no result to show."""
    for run in found.finished:
        if run.folder == folder:
            return run
    left_out = next(item for item in found.left_out if item.folder == folder)
    if not left_out.same_as:
        raise UserError(f"{folder}: {left_out.reason}")
    return next(run for run in found.finished if run.name == left_out.same_as)


def lines_of(a: Run, b: Run, found: Runs) -> list[str]:
    """What is said of two runs in sentences."""
    if a is b:
        return [WORDS["same"]]
    values = len(differing([configuration(a), configuration(b)]))
    lines = [stages_line(values, a.result.stages, b.result.stages)]
    if len(grouped(Runs([a, b], []))) > 1:
        return [*lines, WORDS["incomparable"]]
    of_a, of_b = ([run for run in found.finished if run.setting == side.setting] for side in (a, b))
    return [*lines, setting_line(a.setting == b.setting, psnr_difference(of_b, of_a))]


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    return table


def configuration_table(a: Run, b: Run) -> Table:
    """A row per value that differs of the configuration, and of the machine."""
    rows = [{**configuration(run), **machine(run)} for run in (a, b)]
    table = _table("value", "A", "B")
    for name in differing(rows):
        table.add_row(*(Text(row) for row in (name, *(values.get(name) or MISSING for values in rows))))
    return table


def stage_table(a: Run, b: Run) -> Table:
    """A row per stage: its key, once where both share it."""
    table = _table("stage", "A", "B")
    for stage in dict.fromkeys([*a.result.stages, *b.result.stages]):
        one, two = (run.result.stages.get(stage) for run in (a, b))
        table.add_row(stage, (one or MISSING)[:12], SAME if one == two else (two or MISSING)[:12])
    return table


def result_table(a: Run, b: Run, comparable: bool) -> Table:
    """A row per measure: both values, and B minus A where that says something."""
    runs = Runs([a, b], [])
    rows = [row for _, row in run_table(runs).iterrows()]
    table = _table("measure", "A", "B", *(["B - A"] if comparable else []))
    for item in MEASURES:
        one, two = (float(row.get(item.name, float("nan"))) for row in rows)
        if one != one and two != two:  # neither has it
            continue
        known = item.compared and one == one and two == two
        more = [_signed(format_number(two - one, item), two - one) if known else MISSING] if comparable else []
        unit = f" ({item.unit})" if item.unit else ""
        table.add_row(measure_label(item, runs) + unit, format_number(one, item), format_number(two, item), *more)
    return table


def _signed(text: str, value: float) -> str:
    if not any(sign in "123456789" for sign in text):
        return "0"
    return f"+{text}" if value > 0 else text


def layers_apart(a: Run, b: Run) -> Table:
    """The layers whose share cut differs most, then those that one run has."""
    kept = [{layer.name: layer for layer in run.result.layers} for run in (a, b)]
    cuts = [{name: 1 - layer.kept / layer.total for name, layer in layers.items()} for layers in kept]
    apart = {name: cuts[1][name] - cut for name, cut in cuts[0].items() if cuts[1].get(name, cut) != cut}
    alone = [name for name in dict.fromkeys([*kept[0], *kept[1]]) if name not in kept[0] or name not in kept[1]]
    count = len(apart) + len(alone)
    shown = [*sorted(apart, key=lambda name: -abs(apart[name])), *alone][:LAYERS_SHOWN]
    table = _table(f"layer ({len(shown)} of {count} that differ)", "A keeps", "B keeps", "cut, B - A")
    for name in shown:
        words = [f"{layers[name].kept}/{layers[name].total}" if name in layers else MISSING for layers in kept]
        change = f"{100 * apart[name]:+.1f} %" if name in apart else MISSING
        table.add_row(name, *words, change.replace("-", MINUS))
    return table


def parts_of(a: Run, b: Run, found: Runs) -> list[RenderableType]:
    """Everything that is said of two runs."""
    comparable = len(grouped(Runs([a, b], []))) == 1
    parts: list[RenderableType] = [Text(f"A  {a.folder}"), Text(f"B  {b.folder}"), Text()]
    parts += [Text(line) for line in lines_of(a, b, found)]
    if a is b:
        return parts
    tables = {
        "Configuration that differs": configuration_table(a, b),
        "Stages": stage_table(a, b),
        "Results": result_table(a, b, comparable),
        "Layers that differ most": layers_apart(a, b),
    }
    for title, table in tables.items():
        parts += [Text(), Text(title, style="bold"), table if table.row_count else Text("none")]
    notes = [f"{side}: {note}" for side, run in (("A", a), ("B", b)) for note in run.result.notes]
    notes += timing_notes([a.measured, b.measured]) if comparable else []
    return [*parts, Text(), *(Text(f"note: {note}") for note in notes)]


def two_jobs(folders: Sequence[Path]) -> list[Path]:
    """The folders of two jobs that are given, or the two jobs below one folder that is given.

    They are resolved, so that no folder is found by two names. Raises UserError where they are not two jobs.
    """
    if len(folders) == 1:
        jobs = sorted(path.parent for path in check_runs(folders[0]).resolve().rglob(RESULT))
    else:
        for folder in folders:
            check_runs(folder)
            if not (folder / RESULT).is_file():
                raise UserError(f"{folder} is no job: there is no {RESULT} in it; give two folders that run.py wrote")
        jobs = [folder.resolve() for folder in folders]
    if len(jobs) != 2:
        found = ", ".join(map(os.path.relpath, jobs[:SHOWN])) + (", ..." if len(jobs) > SHOWN else "")
        of_them = f"; name two of them: {found}" if len(jobs) > 2 else ""
        raise UserError(f"{', '.join(map(str, folders))}: two jobs are compared, and these are {len(jobs)}{of_them}")
    return jobs


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what two runs differ in."""
    parser = CommandParser(description="What two runs differ in")
    parser.add_argument(
        "jobs", nargs="+", type=Path, metavar="JOB", help="the folders of two jobs, or one with two jobs in it"
    )
    parser.add_argument(
        "--among", nargs="+", default=[], metavar="RUNS", help="folders with replicates of both settings"
    )
    given = parser.parse_args(arguments)
    with explained():
        jobs = two_jobs(given.jobs)
        others = [Path(folder).resolve() for folder in given.among] or [
            path.parent for job in jobs for path in sorted(job.parent.glob(f"*/{RESULT}"))
        ]
        found = load_runs(list(dict.fromkeys(map(str, [*jobs, *others]))))
        a, b = (job_in(found, job) for job in jobs)
    console = Console(highlight=False)
    for part in parts_of(a, b, found):
        console.print(part)
    for item in found.left_out:
        if item.folder not in jobs:
            print(f"left out: {item.name}: {item.reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
