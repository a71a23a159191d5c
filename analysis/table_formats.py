"""A paper's tables as text: Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

from analysis.escaping import MISSING, for_csv, for_latex, for_markdown
from analysis.evidence import BELOW
from vsrprune.results.replicates import Replicated

FORMATS = ("md", "csv", "tex")
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


def _number(cell: Cell | None, plus_minus: str) -> str:
    return MISSING if cell is None else cell.psnr.text(plus_minus) + (BELOW if cell.below_baseline else "")


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
            for value in (_marked(cell, _number(cell, "±"), latex=False), f"{cell.macs_kept:.1%}" if cell else MISSING)
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
                _marked(cell, _number(cell, r"$\pm$"), latex=True) if cell else for_latex(MISSING),
                rf"{100 * cell.macs_kept:.1f}\,\%" if cell else for_latex(MISSING),
            )
        ]
        lines.append(" & ".join([for_latex(name), *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
