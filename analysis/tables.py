"""A paper's tables from a folder of runs, as Markdown, CSV and LaTeX (booktabs).

    python analysis/tables.py RUNS [RUNS ...] --table rule|scope|order|units|score|tf|method|main|... [--out tables]

Rows are the settings that the table compares, grouped by what else varies; columns are the ratios. PSNR is the mean
over replicates (distinct dense networks, the runs of one averaged first) ± half its 95 % interval. The best of a column
is bold and the second underlined only where the difference to the next is beyond noise. A second table sets every
setting against one of its group, the first or the one that --against names: the difference, a plain word by Holm's
correction over the table; and published rows where the clips are theirs. Runs on other clips, or on other dense
networks that are no replicates, have tables of their own. The same runs give the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis.cuts import columns_of, cuts
from analysis.evidence import BELOW, Cells, evidence_rows
from analysis.groups import GROUPS_SHOWN, HELP, OPTION, Group, chosen_groups, grouped, listed
from analysis.main_table import MAIN_COLUMNS, check_columns, main_table
from analysis.naming import told_apart, truth_caveats, untold
from analysis.output import folder_for
from analysis.runs import CUT_BY, LEADERS, Run, Runs, load_runs, time_caveats
from analysis.table_formats import FORMATS, MARKS, Cell, Table
from analysis.table_sections import GroupTables, together
from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.errors import UserError
from vsrprune.results.replicates import caption, compared, psnr_difference, psnr_over_networks
from vsrprune.results.result import BELOW_BASELINE
from vsrprune.results.settings import steps_note

MAIN = "main"
# What each table compares: the knob of its rows. `main` compares whole settings.
TABLES = {
    "rule": "rule",
    "rsc": "rule",
    "scope": "scope",
    "order": "order",
    "units": "units",
    "score": "score",
    "tf": "tf_weight",
    "method": "method",
    "parts": "parts",
    "rounds": "rounds",
    "one_shot": "method.sparsify",
    "length": "schedule.sparsify.hold_steps",
    "direction": "model",
    MAIN: "",
}
CLIPS = {"val": "held-out clips", "test": "test clips, by which no choice was made,"}


def build_table(runs: Runs, name: str, split: str = "val") -> Table:
    """The table of that name, on the held-out clips (split=val) or on the test clips (split=test).

    Raises UserError where the runs do not vary what it compares, or have no test clips.
    """
    groups = settings_compared(runs, name)
    columns = cuts(runs.finished)
    places = _places(groups, split)
    rows = [
        (group, label, [_cell(cells.get(column), places.get((group, label, column), 0), split) for column in columns])
        for (group, label), cells in groups.items()
    ]
    note = _note(runs, name, [cell for _, _, cells in rows for cell in cells if cell], split)
    return Table(name, columns, rows, note)


def settings_compared(runs: Runs, name: str) -> dict[tuple[str, str], dict[str, list[Run]]]:
    """Jobs by group and name of their setting, then by column, in the order of the knob's values.

    Raises UserError where the runs do not vary what the table compares.
    """
    knob = TABLES[name]
    if knob and knob not in runs.axes:
        same = "it differs along with the method or the network alone" if knob in runs.following else (
            "all these runs have the same"
        )  # fmt: skip
        raise UserError(f"--table {name} compares {knob}, but {same}; they vary {_listed(runs)}")
    # What differs along with the method is named beside it, and does not part the rows that are compared.
    named = [knob, *(runs.following if knob in LEADERS else ())] if knob else runs.varying
    short = _short(runs, name)
    rest = [other for other in runs.varying if other not in (*named, *CUT_BY)]
    groups: dict[tuple[str, str], dict[str, list[Run]]] = {}
    columns = cuts(runs.finished)
    for run in runs.finished:
        group = runs.label(run, without=[other for other in runs.varying if other not in rest]) if rest else ""
        setting = runs.label(run, without=[*rest, *CUT_BY, *short])
        cells = groups.setdefault((group, setting), {})
        for column in columns_of(run, columns):
            cells.setdefault(column, []).append(run)
    return groups


def _short(runs: Runs, name: str) -> tuple[str, ...]:
    """The knobs that names of settings leave out in the table of this name."""
    return untold(runs) if TABLES[name] in ("", *LEADERS) else ()


def _as_named(runs: Runs, setting: str, name: str) -> str:
    """A setting by its name in the table, where it is given by all its knobs; otherwise as it is given."""
    short = [*CUT_BY, *_short(runs, name)]
    long = {runs.label(run, without=CUT_BY): run for run in runs.finished}
    return runs.label(long[setting], without=short) if setting in long and name == MAIN else setting


def _listed(runs: Runs) -> str:
    return ", ".join(runs.axes) or "nothing but seeds"


def _cell(jobs: Sequence[Run] | None, place: int, split: str) -> Cell | None:
    if not jobs:
        return None
    below = any(run.result.dense_below_baseline for run in jobs)
    return Cell(psnr_over_networks(jobs, split), sum(run.result.macs_kept for run in jobs) / len(jobs), place, below)


def _places(groups: Cells, split: str) -> dict[tuple[str, str, str], int]:
    """By group, name and column: 1 for the best setting if it beats the next, 2 for the second if it beats the third.

    The best against the next is a test of the best against all (Gutmann and Maymin, 1987); Holm's correction is over
    all such tests of the table.
    """
    tested = [
        (
            group,
            column,
            place,
            better,
            psnr_difference(groups[group, better][column], groups[group, worse][column], split),
        )
        for group, column in dict.fromkeys((group, column) for (group, _), cells in groups.items() for column in cells)
        for place, (better, worse) in enumerate(
            pairwise(_ranked(groups, group, column, split)[: len(MARKS) + 1]), start=1
        )
    ]
    places: dict[tuple[str, str, str], int] = {}
    marked = set()
    for (group, column, place, better, _), found in zip(tested, compared([test[-1] for test in tested]), strict=True):
        # Without a clear first there is no second either.
        if found.verdict == "better" and (place == 1 or (group, column, place - 1) in marked):
            places[group, better, column] = place
            marked.add((group, column, place))
    return places


def _ranked(groups: Cells, group: str, column: str, split: str) -> list[str]:
    """The names of a group's settings that have this column, the best first."""
    means = {
        name: psnr_over_networks(cells[column], split).mean
        for (other, name), cells in groups.items()
        if other == group and column in cells
    }
    return sorted(means, key=lambda name: -means[name])


def _note(runs: Runs, name: str, cells: Sequence[Cell], split: str) -> str:
    result = runs.finished[0].result
    data = result.knobs["data"]
    more = [f" {steps_note([run.result for run in runs.finished])}"]
    if _short(runs, name) and (told := told_apart(runs)):
        more.append(f" {told[0].upper()}{told[1:]}.")
    more += [f" Note: {caveat}." for caveat in truth_caveats(runs)]
    more += [f" Note: {caveat}." for caveat in time_caveats(runs)] if "tf_weight" in runs.varying else []
    if any(cell.below_baseline for cell in cells):
        more.append(f" {BELOW.strip()} {BELOW_BASELINE}")
    numbers = [cell.psnr for cell in cells]
    marks = (
        " The best of a group and column is marked where its difference to the next is beyond noise (Student's t over"
        " dense networks, Holm's correction over the table)."
    )
    return (
        f"PSNR (dB) on {data['channel'].upper()} after fine-tuning, on the {CLIPS[split]} of {data['name']}"
        f"{result.convention}, and the share of MACs kept."
        f" {caption(numbers)}{marks if max(psnr.networks for psnr in numbers) > 1 else ''}" + "".join(more)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown, and write it in all formats if asked to."""
    parser = CommandParser(description="A paper's tables from a folder of runs")
    parser.add_argument("runs", nargs="+", help="folders below which run.py wrote its jobs")
    parser.add_argument("--table", required=True, choices=TABLES, help="what is compared")
    parser.add_argument("--against", default="", metavar="SETTING", help="the reference, by its name in the table")
    parser.add_argument(
        "--split", default="val", choices=CLIPS, help="the held-out clips, or the test clips (data.test)"
    )
    parser.add_argument(
        "--columns", nargs="+", default=[], metavar="COLUMN",
        help=f"of --table {MAIN}: {', '.join(MAIN_COLUMNS)} (default: all that were measured)",
    )  # fmt: skip
    parser.add_argument(OPTION, default="", metavar="GROUP", help=HELP)
    parser.add_argument("--out", help="folder to write TABLE.md, TABLE.csv and TABLE.tex into")
    given = parser.parse_args(arguments)
    with explained():
        _print_tables(given)
    return 0


def tables_of_groups(runs: Runs, given: argparse.Namespace) -> tuple[list[GroupTables], list[str]]:
    """The tables of each group, and what is said of groups that have none.

    Raises UserError where no group has one, by the reason of the first.
    """
    # Networks are compared by this table alone; the others compare the runs of one.
    every = grouped(runs, [TABLES[given.table]] if TABLES[given.table] == "model" else [])
    groups = chosen_groups(every, given.group)
    found, said = [], []
    names = {group.number: {name for _, name in _cells(group, given.table)} for group in groups}
    for group in groups[:GROUPS_SHOWN]:
        try:
            cells = settings_compared(group.runs, given.table)
            # A group may lack the setting that --against names, where another has it.
            against = _as_named(group.runs, given.against, given.table)
            known = against in names[group.number] or not any(against in of for of in names.values())
            evidence = evidence_rows(cells, group.runs, against if known else "", given.split)
            table = build_table(group.runs, given.table, given.split)
            whole = main_table(table, cells, group.runs, given.columns, given.split) if given.table == MAIN else None
            found.append(GroupTables(group.name if len(every) > 1 else "", table, evidence, whole))
        except UserError as error:
            if len(groups) == 1:
                raise
            said.append(f"no table of group {group.title}: {error}")
    if not found:
        raise UserError("; ".join(said))
    if rest := groups[GROUPS_SHOWN:]:
        said.append(f"tables of the first {GROUPS_SHOWN} groups; {OPTION} shows {listed(rest)}")
    return found, said


def _cells(group: Group, name: str) -> Cells:
    try:
        return settings_compared(group.runs, name)
    except UserError:
        return {}


def _print_tables(given: argparse.Namespace) -> None:
    check_columns(given.columns)
    if given.columns and given.table != MAIN:
        raise UserError(f"--columns is of --table {MAIN} alone; got --table {given.table}: leave --columns out")
    out = folder_for(given.out) if given.out else None
    runs = load_runs(given.runs)
    found, said = tables_of_groups(runs, given)
    for item in found:
        print("\n".join(together([item], "md")))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        for ending in FORMATS:
            for name, text in zip((given.table, f"{given.table}_evidence"), together(found, ending), strict=True):
                path = out / f"{name}.{ending}"
                path.write_text(text)
                print(path)
    for line in said:
        print(line, file=sys.stderr)
    for left in runs.left_out:
        print(f"left out: {left.name}: {left.reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
