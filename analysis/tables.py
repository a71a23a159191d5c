"""A paper's tables from a folder of runs, as Markdown, CSV and LaTeX (booktabs).

    python analysis/tables.py RUNS [RUNS ...] --table rule|scope|order|score|tf|method|main|... [--out tables]

Rows are the settings that the table compares, grouped by what else varies; columns are the ratios. PSNR is the mean
over seeds ± half its 95 % interval. The best of a column is bold and the second underlined only where a difference
paired over seeds is beyond noise. A second table sets every setting against one of its group, the first or the one
that --against names: the difference, the pairs of clip and seed in which it is better, a plain word; and published
rows where the clips are theirs. The same runs give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis.evidence import evidence_csv, evidence_latex, evidence_markdown, evidence_rows
from analysis.runs import KNOBS, Run, Runs, load_runs, time_caveats
from vsrprune.cli import explained
from vsrprune.errors import UserError
from vsrprune.results.intervals import Interval
from vsrprune.results.settings import psnr_difference, psnr_over_seeds, seeds_of

# What each table compares: the knob of its rows. `main` compares whole settings.
TABLES = {
    "rule": "rule",
    "rsc": "rule",
    "scope": "scope",
    "order": "order",
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
COLUMN = ("target", "ratio")
MARKS = {1: ("**", "**", r"\textbf{", "}"), 2: ("<u>", "</u>", r"\underline{", "}")}


@dataclass(frozen=True)
class Cell:
    """One setting at one ratio: PSNR (dB) over seeds, the share of MACs kept, and its place (1, 2; 0 for none)."""

    psnr: Interval
    macs_kept: float
    place: int


@dataclass(frozen=True)
class Table:
    """Columns (ratios) and rows: the group and name of each setting, with a cell per column or None."""

    name: str
    columns: list[str]
    rows: list[tuple[str, str, list[Cell | None]]]
    note: str


def build_table(runs: Runs, name: str) -> Table:
    """The table of that name. Raises UserError where the runs do not vary what it compares."""
    groups = settings_compared(runs, name)
    columns = sorted({_column(run) for run in runs.finished})
    places = {
        (group, column): _places(
            {row: cells[column] for row, cells in groups.items() if row[0] == group and column in cells}
        )
        for group in dict.fromkeys(row[0] for row in groups)
        for column in columns
    }
    rows = [
        (group, label, [_cell(cells.get(column), places[group, column].get((group, label), 0)) for column in columns])
        for (group, label), cells in groups.items()
    ]
    return Table(name, columns, rows, _note(runs, about_time="tf_weight" in runs.varying))


def settings_compared(runs: Runs, name: str) -> dict[tuple[str, str], dict[str, list[Run]]]:
    """Jobs by group and name of their setting, then by column, in the order of the knob's values.

    Raises UserError where the runs do not vary what the table compares.
    """
    knob = TABLES[name]
    if knob and knob not in runs.varying:
        raise UserError(f"--table {name} compares {knob}, but all these runs have the same; they vary {_listed(runs)}")
    groups: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in runs.finished:
        row = (_group(runs, run, knob), _row_name(runs, run, knob))
        groups.setdefault(row, {}).setdefault(_column(run), []).append(run)
    return groups


def _listed(runs: Runs) -> str:
    return ", ".join(runs.varying) or "nothing but seeds"


def _column(run: Run) -> str:
    target = {"macs": "MACs"}.get(run.knobs["target"], run.knobs["target"])
    return f"{100 * run.knobs['ratio']:g} % of the {target} cut"


def _group(runs: Runs, run: Run, knob: str) -> str:
    return runs.label(run, without=(knob, *COLUMN)) if knob and set(runs.varying) - {knob, *COLUMN} else ""


def _row_name(runs: Runs, run: Run, knob: str) -> str:
    without = [name for name in KNOBS if name != knob] if knob else COLUMN
    return runs.label(run, without=without)


def _cell(jobs: Sequence[Run] | None, place: int) -> Cell | None:
    if not jobs:
        return None
    return Cell(psnr_over_seeds(jobs), sum(run.result.macs_kept for run in jobs) / len(jobs), place)


def _places(settings: Mapping[tuple[str, str], Sequence[Run]]) -> dict[tuple[str, str], int]:
    """1 for the best setting if it beats the next beyond noise, 2 for the second if it beats the third so."""
    order = sorted(settings, key=lambda row: -psnr_over_seeds(settings[row]).mean)
    places = {}
    for place, (better, worse) in enumerate(pairwise(order), start=1):
        difference = psnr_difference(settings[better], settings[worse])
        # Without a clear first there is no second either.
        if place > len(MARKS) or difference is None or difference.verdict != "better":
            break
        places[better] = place
    return places


def _note(runs: Runs, about_time: bool) -> str:
    result = runs.finished[0].result
    data = result.knobs["data"]
    seeds = len({seeds_of(run.result) for run in runs.finished})
    caveats = [f" Note: {caveat}." for caveat in time_caveats(runs)] if about_time else []
    return (
        f"PSNR (dB) on {data['channel'].upper()} after fine-tuning, {data['name']}{result.convention}: mean over seeds"
        f" ± half the 95 % interval ({seeds} seed{'s' if seeds > 1 else ''}), and the share of MACs kept. The best of a"
        " group is marked where its difference to the next, paired over seeds, is beyond noise." + "".join(caveats)
    )


def _number(cell: Cell | None, plus_minus: str) -> str:
    if cell is None:
        return ""
    spread = "" if math.isnan(cell.psnr.half_width) else f" {plus_minus} {cell.psnr.half_width:.3f}"
    return f"{cell.psnr.mean:.3f}{spread}"


def _marked(cell: Cell | None, text: str, latex: bool) -> str:
    if cell is None or not cell.place:
        return text
    marks = MARKS[cell.place]
    return f"{marks[2]}{text}{marks[3]}" if latex else f"{marks[0]}{text}{marks[1]}"


def markdown(table: Table) -> str:
    """GitHub's tables; a group is a row of its own."""
    lines = ["| setting | " + " | ".join(f"{column} | MACs kept" for column in table.columns) + " |"]
    lines.append("|---|" + "---:|" * (2 * len(table.columns)))
    for group, name, cells in _with_groups(table):
        values = [
            value
            for cell in cells
            for value in (_marked(cell, _number(cell, "±"), latex=False), f"{cell.macs_kept:.1%}" if cell else "")
        ]
        lines.append(
            f"| *{group}* |" + " |" * (2 * len(table.columns)) if not cells else f"| {name} | {' | '.join(values)} |"
        )
    return "\n".join([*lines, "", table.note, ""])


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
        ["group", "setting", "column", "seeds", "psnr_db", "half_width_db", "deviation_db", "macs_kept", "place"]
    )
    for group, name, cells in table.rows:
        for column, cell in zip(table.columns, cells, strict=True):
            if cell:
                psnr = cell.psnr
                numbers = [f"{value:.6f}" for value in (psnr.mean, psnr.half_width, psnr.deviation, cell.macs_kept)]
                writer.writerow([group, name, column, psnr.count, *numbers, cell.place or ""])
    return out.getvalue()


def latex(table: Table) -> str:
    """A booktabs tabular with its caption in a comment."""
    lines = [f"% {_escaped(table.note)}", rf"\begin{{tabular}}{{l{'rr' * len(table.columns)}}}", r"\toprule"]
    heads = " & ".join(rf"\multicolumn{{2}}{{c}}{{{_escaped(column)}}}" for column in table.columns)
    lines += [rf"setting & {heads} \\"]
    lines += ["".join(rf"\cmidrule(lr){{{2 * i + 2}-{2 * i + 3}}}" for i in range(len(table.columns)))]
    lines += [" & " + " & ".join(["PSNR & MACs"] * len(table.columns)) + r" \\", r"\midrule"]
    for group, name, cells in _with_groups(table):
        if not cells:
            lines.append(rf"\multicolumn{{{2 * len(table.columns) + 1}}}{{l}}{{\emph{{{_escaped(group)}}}}} \\")
            continue
        values = [
            value
            for cell in cells
            for value in (
                _marked(cell, _number(cell, r"$\pm$"), latex=True),
                rf"{100 * cell.macs_kept:.1f}\,\%" if cell else "",
            )
        ]
        lines.append(" & ".join([_escaped(name), *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _escaped(text: str) -> str:
    return "".join(rf"\{letter}" if letter in "_%&#$" else letter for letter in text).replace("±", r"$\pm$")


FORMATS = {"md": markdown, "csv": comma_separated, "tex": latex}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown, and write it in all formats if asked to."""
    parser = argparse.ArgumentParser(description="A paper's tables from a folder of runs")
    parser.add_argument("runs", nargs="+", help="folders below which run.py wrote its jobs")
    parser.add_argument("--table", required=True, choices=TABLES, help="what is compared")
    parser.add_argument("--against", default="", metavar="SETTING", help="the reference, by its name in the table")
    parser.add_argument("--out", help="folder to write TABLE.md, TABLE.csv and TABLE.tex into")
    given = parser.parse_args(arguments)
    with explained():
        _print_tables(given)
    return 0


def _print_tables(given: argparse.Namespace) -> None:
    runs = load_runs(given.runs)
    table = build_table(runs, given.table)
    rows = evidence_rows(settings_compared(runs, given.table), runs, given.against)
    print(markdown(table))
    print(evidence_markdown(rows))
    if given.out:
        Path(given.out).mkdir(parents=True, exist_ok=True)
        for ending, render in FORMATS.items():
            path = Path(given.out) / f"{given.table}.{ending}"
            path.write_text(render(table))
            print(path)
        for ending, text in (
            ("md", evidence_markdown(rows)),
            ("csv", evidence_csv(rows)),
            ("tex", evidence_latex(rows, _escaped)),
        ):
            path = Path(given.out) / f"{given.table}_evidence.{ending}"
            path.write_text(text)
            print(path)
    for item in runs.left_out:
        print(f"left out: {item.name}: {item.reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
