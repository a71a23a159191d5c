"""A paper's tables from a folder of runs, as Markdown, CSV and LaTeX (booktabs).

    python analysis/tables.py RUNS [RUNS ...] --table rule|scope|order|units|score|tf|method|main|... [--out tables]

Rows are the settings that the table compares, grouped by what else varies; columns are the ratios. PSNR is the mean
over replicates (distinct dense networks, the runs of one averaged first) ± half its 95 % interval. The best of a column
is bold and the second underlined only where the difference to the next is beyond noise. A second table sets every
setting against one of its group, the first or the one that --against names: the difference, a plain word by Holm's
correction over the table; and published rows where the clips are theirs. The same runs give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis.cuts import columns_of, cuts
from analysis.escaping import for_csv, for_latex, for_markdown
from analysis.evidence import BELOW, Cells, evidence_csv, evidence_latex, evidence_markdown, evidence_rows
from analysis.output import folder_for
from analysis.runs import CUT_BY, LEADERS, Run, Runs, load_runs, time_caveats
from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.errors import UserError
from vsrprune.results.replicates import Replicated, caption, compared, psnr_difference, psnr_over_networks
from vsrprune.results.result import BELOW_BASELINE
from vsrprune.results.settings import steps_note

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
    "main": "",
}
CLIPS = {"val": "held-out clips", "test": "test clips, by which no choice was made,"}
MARKS = {1: ("**", "**", r"\textbf{", "}"), 2: ("<u>", "</u>", r"\underline{", "}")}


@dataclass(frozen=True)
class Cell:
    """One setting at one ratio: PSNR (dB) over replicates, the share of MACs kept, and its place (1, 2; 0 for none).

    below_baseline: whether its dense network is worse than what outputs are to improve on.
    """

    psnr: Replicated
    macs_kept: float
    place: int
    below_baseline: bool


@dataclass(frozen=True)
class Table:
    """Columns (ratios) and rows: the group and name of each setting, with a cell per column or None."""

    name: str
    columns: list[str]
    rows: list[tuple[str, str, list[Cell | None]]]
    note: str


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
    note = _note(runs, [cell for _, _, cells in rows for cell in cells if cell], split)
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
    rest = [other for other in runs.varying if other not in (*named, *CUT_BY)]
    groups: dict[tuple[str, str], dict[str, list[Run]]] = {}
    columns = cuts(runs.finished)
    for run in runs.finished:
        group = runs.label(run, without=[other for other in runs.varying if other not in rest]) if rest else ""
        setting = runs.label(run, without=[*rest, *CUT_BY])
        cells = groups.setdefault((group, setting), {})
        for column in columns_of(run, columns):
            cells.setdefault(column, []).append(run)
    return groups


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


def _note(runs: Runs, cells: Sequence[Cell], split: str) -> str:
    result = runs.finished[0].result
    data = result.knobs["data"]
    more = [f" {steps_note([run.result for run in runs.finished])}"]
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


def _number(cell: Cell | None, plus_minus: str) -> str:
    return "" if cell is None else cell.psnr.text(plus_minus) + (BELOW if cell.below_baseline else "")


def _marked(cell: Cell | None, text: str, latex: bool) -> str:
    if cell is None or not cell.place:
        return text
    marks = MARKS[cell.place]
    return f"{marks[2]}{text}{marks[3]}" if latex else f"{marks[0]}{text}{marks[1]}"


def markdown(table: Table) -> str:
    """GitHub's tables; a group is a row of its own."""
    lines = ["| setting | " + " | ".join(f"{for_markdown(column)} | MACs kept" for column in table.columns) + " |"]
    lines.append("|---|" + "---:|" * (2 * len(table.columns)))
    for group, name, cells in _with_groups(table):
        values = [
            value
            for cell in cells
            for value in (_marked(cell, _number(cell, "±"), latex=False), f"{cell.macs_kept:.1%}" if cell else "")
        ]
        lines.append(
            f"| *{for_markdown(group)}* |" + " |" * (2 * len(table.columns))
            if not cells
            else f"| {for_markdown(name)} | {' | '.join(values)} |"
        )
    return "\n".join([*lines, "", for_markdown(table.note), ""])


def _with_groups(table: Table) -> list[tuple[str, str, list[Cell | None]]]:
    """The rows with a row without cells before each group that has a name."""
    rows: list[tuple[str, str, list[Cell | None]]] = []
    for group, name, cells in sorted(table.rows, key=lambda row: [other[0] for other in table.rows].index(row[0])):
        if group and (not rows or rows[-1][0] != group):
            rows.append((group, "", []))
        rows.append((group, name, cells))
    return rows


def comma_separated(table: Table) -> str:
    """A line per setting and ratio, numbers in full."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["group", "setting", "column", "dense_networks", "plans", "runs", "psnr_db", "half_width_db", "deviation_db",
         "order_deviation_db", "macs_kept", "place", "dense_below_baseline"]
    )  # fmt: skip
    for group, name, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            if cell:
                psnr, spread = cell.psnr, cell.psnr.over_networks
                numbers = (psnr.mean, spread.half_width, spread.deviation, psnr.order_deviation, cell.macs_kept)
                texts = ["" if math.isnan(value) else f"{value:.6f}" for value in numbers]
                counts = [psnr.networks, psnr.plans, psnr.runs]
                below = str(cell.below_baseline).lower()
                words = map(for_csv, (group, name, column))
                writer.writerow([*words, *counts, *texts, cell.place or "", below])
    return out.getvalue()


def latex(table: Table) -> str:
    """A booktabs tabular with its caption in a comment."""
    lines = [f"% {for_latex(table.note)}", rf"\begin{{tabular}}{{l{'rr' * len(table.columns)}}}", r"\toprule"]
    heads = " & ".join(rf"\multicolumn{{2}}{{c}}{{{for_latex(column)}}}" for column in table.columns)
    lines += [rf"setting & {heads} \\"]
    lines += ["".join(rf"\cmidrule(lr){{{2 * i + 2}-{2 * i + 3}}}" for i in range(len(table.columns)))]
    lines += [" & " + " & ".join(["PSNR & MACs"] * len(table.columns)) + r" \\", r"\midrule"]
    for group, name, cells in _with_groups(table):
        if not cells:
            lines.append(rf"\multicolumn{{{2 * len(table.columns) + 1}}}{{l}}{{\emph{{{for_latex(group)}}}}} \\")
            continue
        values = [
            value
            for cell in cells
            for value in (
                _marked(cell, _number(cell, r"$\pm$"), latex=True),
                rf"{100 * cell.macs_kept:.1f}\,\%" if cell else "",
            )
        ]
        lines.append(" & ".join([for_latex(name), *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


FORMATS = {"md": markdown, "csv": comma_separated, "tex": latex}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown, and write it in all formats if asked to."""
    parser = CommandParser(description="A paper's tables from a folder of runs")
    parser.add_argument("runs", nargs="+", help="folders below which run.py wrote its jobs")
    parser.add_argument("--table", required=True, choices=TABLES, help="what is compared")
    parser.add_argument("--against", default="", metavar="SETTING", help="the reference, by its name in the table")
    parser.add_argument(
        "--split", default="val", choices=CLIPS, help="the held-out clips, or the test clips (data.test)"
    )
    parser.add_argument("--out", help="folder to write TABLE.md, TABLE.csv and TABLE.tex into")
    given = parser.parse_args(arguments)
    with explained():
        _print_tables(given)
    return 0


def _print_tables(given: argparse.Namespace) -> None:
    out = folder_for(given.out) if given.out else None
    runs = load_runs(given.runs)
    table = build_table(runs, given.table, given.split)
    rows = evidence_rows(settings_compared(runs, given.table), runs, given.against, given.split)
    print(markdown(table))
    print(evidence_markdown(rows))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        for ending, render in FORMATS.items():
            path = out / f"{given.table}.{ending}"
            path.write_text(render(table))
            print(path)
        for ending, text in (
            ("md", evidence_markdown(rows)),
            ("csv", evidence_csv(rows)),
            ("tex", evidence_latex(rows)),
        ):
            path = out / f"{given.table}_evidence.{ending}"
            path.write_text(text)
            print(path)
    for item in runs.left_out:
        print(f"left out: {item.name}: {item.reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
