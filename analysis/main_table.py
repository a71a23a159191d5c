"""The main table of a paper: every setting at every cut, beside the baseline, the dense network and published rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from analysis.comparisons import published_table
from analysis.escaping import MISSING, for_csv, for_latex, for_markdown
from analysis.evidence import BELOW
from analysis.runs import Run, Runs
from analysis.table_formats import MARKS, Table
from vsrprune.errors import UserError
from vsrprune.results.measured import timing_notes
from vsrprune.results.replicates import by_network
from vsrprune.results.result import Cost, Quality

BASELINE, DENSE, PRUNED = "baseline", "dense", "pruned"  # whose number it is
PUBLISHED = "published"  # the group of rows that no run here gave
COUNTS = ("", "K", "M", "G", "T")


@dataclass(frozen=True)
class MainColumn:
    """A column: its heading, what the caption says of it, its digits, and its number of one run.

    of: of a run, the split (val, test) and one of BASELINE, DENSE and PRUNED; NaN where it is not known. published: the
    column of `published_table` that holds it. large: whether the heading's {} stands for K, M or G.
    """

    heading: str
    says: str
    digits: int
    of: Callable[[Run, str, str], float]
    published: str = ""
    large: bool = False


def _quality(run: Run, split: str, whose: str) -> Quality:
    qualities = run.result.test if split == "test" else run.result.quality
    quality = qualities["finetuned" if whose == PRUNED else whose]
    if whose == DENSE and not run.result.sees_truth:  # what is compared with itself
        return replace(quality, psnr=math.nan, ssim=math.nan)
    return quality


def _cost(run: Run, whose: str, of: Callable[[Cost], float]) -> float:
    return math.nan if whose == BASELINE else of(run.result.cost[whose])


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _ms(run: Run, whose: str) -> float:
    return math.nan if whose == BASELINE else run.measured.latency_ms[whose].ms


def _quotient(run: Run, whose: str) -> float:
    """How many times less the MACs are, over how many times faster it is; 1 is perfect.

    Both without the flow net, unless it is pruned too.
    """
    if whose == BASELINE:
        return math.nan
    cost = run.result.cost
    flow_counts = cost[DENSE].macs == cost[DENSE].macs_with_flow
    faster = run.measured.dense_ms / _ms(run, whose) if flow_counts else _faster_without_flow(run, whose)
    return cost[DENSE].macs / cost[whose].macs / faster if faster > 0 else math.nan


def _faster_without_flow(run: Run, whose: str) -> float:
    times = run.measured.latency_ms
    return math.nan if whose == BASELINE else times[DENSE].ms_without_flow / times[whose].ms_without_flow


# In the order in which they stand.
MAIN_COLUMNS = {
    "psnr": MainColumn("PSNR (dB)", "", 3, lambda run, split, whose: _quality(run, split, whose).psnr, "psnr"),
    "ssim": MainColumn("SSIM", "", 4, lambda run, split, whose: _quality(run, split, whose).ssim, "ssim"),
    "tof": MainColumn(
        "tOF (px)", "tOF: error of the optical flow, less is better", 3,
        lambda run, split, whose: _known(_quality(run, split, whose).tof),
    ),
    "macs": MainColumn(
        "MACs ({})", "MACs per frame and parameters without the flow net", 2,
        lambda run, split, whose: _cost(run, whose, lambda cost: cost.macs), large=True,
    ),
    "macs_kept": MainColumn(
        "MACs kept (%)", "", 1,
        lambda run, split, whose: _cost(run, whose, lambda cost: 100 * cost.macs / run.result.cost[DENSE].macs),
        "macs_percent",
    ),
    "parameters": MainColumn(
        "parameters ({})", "", 2, lambda run, split, whose: _cost(run, whose, lambda cost: cost.parameters),
        "parameters", large=True,
    ),
    "ms": MainColumn("ms", "ms: median per frame, flow net included", 2, lambda run, split, whose: _ms(run, whose)),
    "fps": MainColumn("frames/s", "", 1, lambda run, split, whose: 1000 / _ms(run, whose)),
    "speed_up": MainColumn(
        "speed-up", "speed-up: over the dense network, timed in turns with each run", 2,
        lambda run, split, whose: run.measured.dense_ms / _ms(run, whose),
    ),
    "speed_up_without_flow": MainColumn(
        "without flow", "without flow: the speed-up of all but the flow net", 2,
        lambda run, split, whose: _faster_without_flow(run, whose),
    ),
    "quotient": MainColumn(
        "quotient",
        "quotient: how many times fewer MACs over how many times faster, without the flow net unless it is pruned too;"
        " 1 is all that the MACs promise",
        2, lambda run, split, whose: _quotient(run, whose),
    ),
    "memory": MainColumn(
        "peak memory (MiB)", "peak memory: weights included", 0,
        lambda run, split, whose: _known(run.measured.peak_memory_mib.get(whose)),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class MainRow:
    """A setting at one cut, or a row to judge by. values: by the names of MAIN_COLUMNS; NaN where one is not known.

    psnr: its text with ± where there is one. place: 1 or 2 where it is marked. counts: networks, plans and runs. below:
    whether its dense network is worse than the baseline.
    """

    group: str
    name: str
    values: dict[str, float]
    psnr: str = ""
    half_width: float = math.nan
    place: int = 0
    counts: tuple[int, int, int] | None = None
    below: bool = False

    @property
    def title(self) -> str:
        """Its name, marked where its dense network is below the baseline."""
        return self.name + (BELOW if self.below else "")


@dataclass(frozen=True)
class MainTable:
    """Columns by the names of MAIN_COLUMNS, and rows. note: what a reader must know."""

    columns: list[str]
    rows: list[MainRow]
    note: str


def check_columns(names: Sequence[str]) -> None:
    """Raise UserError where one is none of MAIN_COLUMNS."""
    wrong = [name for name in names if name not in MAIN_COLUMNS]
    if wrong:
        raise UserError(f"--columns must be of {', '.join(MAIN_COLUMNS)}; got {', '.join(map(repr, wrong))}")


def main_table(
    table: Table, jobs: dict[tuple[str, str], dict[str, list[Run]]], runs: Runs, columns: Sequence[str], split: str
) -> MainTable:
    """The rows of a table of PSNR with everything else that was measured, in the order of its cuts.

    table, jobs: from `build_table` and `settings_compared`. columns: of MAIN_COLUMNS; all that are known if empty.
    """
    rows = [_row("", runs.finished[0].result.baseline_name, runs.finished, BASELINE, split)]
    rows += [_row("", "dense", runs.finished, DENSE, split)]
    for place, cut in enumerate(table.columns):
        for group, name, cells in table.rows:
            if (cell := cells[place]) is None:
                continue
            title = "; ".join(text for text in (cut, group) if text)
            psnr = cell.psnr
            rows.append(
                replace(
                    _row(title, name, jobs[group, name][cut], PRUNED, split),
                    psnr=psnr.text(),
                    half_width=psnr.over_networks.half_width,
                    place=cell.place,
                    counts=(psnr.networks, psnr.plans, psnr.runs),
                    below=cell.below_baseline,
                )
            )
    rows += _published(runs) if split == "val" else []
    empty = [name for name in MAIN_COLUMNS if all(math.isnan(row.values[name]) for row in rows)]
    shown = [name for name in MAIN_COLUMNS if (name in columns if columns else name not in empty)]
    return MainTable(shown, rows, _note(table.note, shown, [] if columns else empty, runs, rows))


def _note(of_psnr: str, shown: Sequence[str], empty: Sequence[str], runs: Runs, rows: Sequence[MainRow]) -> str:
    """The caption: what the columns are, which nobody measured, and whose the published rows are."""
    says = [MAIN_COLUMNS[name].says for name in shown if MAIN_COLUMNS[name].says]
    told = [of_psnr, *(["; ".join(says) + "."] if says else [])]
    # Milliseconds of different runs are compared here by a reader's eye alone, who must know what disturbs them.
    timed = {"ms", "fps"} & set(shown)
    told += [f"Note: {note}." for note in timing_notes([run.measured for run in runs.finished])] if timed else []
    told += [f"Not measured: {', '.join(_heading(name, []) for name in empty)}."] if empty else []
    if any(row.group == PUBLISHED for row in rows):
        sources = "; ".join(dict.fromkeys(published_table(runs)["source"]))
        told.append(
            "Published rows are others' numbers on the same clips and channel, their MACs kept a share of BasicVSR's;"
            f" source: {sources}."
        )
    return " ".join([*told, f"{MISSING}: not known."])


def _row(group: str, name: str, jobs: Sequence[Run], whose: str, split: str) -> MainRow:
    """Means over dense networks, the runs of one averaged first."""
    networks = by_network(jobs).values()
    values = {
        key: sum(sum(measure.of(run, split, whose) for run in of) / len(of) for of in networks) / len(networks)
        for key, measure in MAIN_COLUMNS.items()
    }
    return MainRow(group, name, values)


def _published(runs: Runs) -> list[MainRow]:
    table = published_table(runs).assign(macs_percent=lambda rows: 100 * rows["macs_kept"])
    return [
        MainRow(
            PUBLISHED,
            str(row["method"]),
            {
                name: float(row[measure.published]) if measure.published else math.nan
                for name, measure in MAIN_COLUMNS.items()
            },
            f"{row['psnr']:.2f}",
        )
        for row in table.to_dict("records")
    ]


def _unit(name: str, rows: Sequence[MainRow]) -> int:
    """The power of 1000 in which a column of large numbers stands, by its largest."""
    largest = max((row.values[name] for row in rows if not math.isnan(row.values[name])), default=1.0)
    return min(len(COUNTS) - 1, max(0, int(math.log10(max(1.0, largest)) // 3))) if MAIN_COLUMNS[name].large else 0


def _heading(name: str, rows: Sequence[MainRow]) -> str:
    return MAIN_COLUMNS[name].heading.replace(" ({})", f" ({COUNTS[unit]})" if (unit := _unit(name, rows)) else "")


def _texts(table: MainTable, row: MainRow, plus_minus: str) -> list[str]:
    """The cells of a row, without marks of any format."""
    texts = []
    for name in table.columns:
        value = row.values[name] / 1000 ** _unit(name, table.rows)
        number = MISSING if math.isnan(value) else f"{value:.{MAIN_COLUMNS[name].digits}f}"
        texts.append(row.psnr.replace("±", plus_minus) if name == "psnr" and row.psnr else number)
    return texts


def _grouped(rows: Sequence[MainRow]) -> list[tuple[str, list[MainRow]]]:
    titled: dict[str, list[MainRow]] = {}
    for row in rows:
        titled.setdefault(row.group, []).append(row)
    return list(titled.items())


def main_markdown(table: MainTable) -> str:
    """A GitHub table; a cut is a row of its own."""
    lines = ["| setting | " + " | ".join(for_markdown(_heading(name, table.rows)) for name in table.columns) + " |"]
    lines.append("|---|" + "---:|" * len(table.columns))
    for group, rows in _grouped(table.rows):
        lines += [f"| *{for_markdown(group)}* |" + " |" * len(table.columns)] if group else []
        for row in rows:
            texts = _texts(table, row, "±")
            if row.place and "psnr" in table.columns:
                before, after = MARKS[row.place][:2]
                at = table.columns.index("psnr")
                texts[at] = f"{before}{texts[at]}{after}"
            lines.append(f"| {for_markdown(row.title)} | {' | '.join(texts)} |")
    return "\n".join([*lines, "", for_markdown(table.note), ""])


def main_latex(table: MainTable) -> str:
    """A booktabs tabular with its caption in a comment."""
    headings = ["setting", *(_heading(name, table.rows) for name in table.columns)]
    lines = [f"% {for_latex(table.note)}", rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule"]
    lines += [" & ".join(map(for_latex, headings)) + r" \\"]
    for group, rows in _grouped(table.rows):
        lines.append(r"\midrule")
        lines += [rf"\multicolumn{{{len(headings)}}}{{l}}{{\emph{{{for_latex(group)}}}}} \\"] if group else []
        for row in rows:
            texts = [text.replace(MISSING, for_latex(MISSING)) for text in _texts(table, row, r"$\pm$")]
            if row.place and "psnr" in table.columns:
                before, after = MARKS[row.place][2:]
                at = table.columns.index("psnr")
                texts[at] = f"{before}{texts[at]}{after}"
            lines.append(" & ".join([for_latex(row.title), *texts]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def main_csv(table: MainTable, section: str = "") -> str:
    """A line per row, numbers in full and in their first unit; nothing where one is not known.

    The columns are all of MAIN_COLUMNS, so that tables of several groups of runs fit below each other.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    counts = ("dense_networks", "plans", "runs")
    writer.writerow(
        ["group", "column", "setting", *counts, *MAIN_COLUMNS, "psnr_half_width", "place", "dense_below_baseline"]
    )
    for row in table.rows:
        numbers = [*(row.values[name] for name in MAIN_COLUMNS), row.half_width]
        texts = ["" if math.isnan(value) else f"{value:.6f}" for value in numbers]
        words = map(for_csv, (section, row.group, row.name))
        writer.writerow([*words, *(row.counts or ("", "", "")), *texts, row.place or "", str(row.below).lower()])
    return out.getvalue()
