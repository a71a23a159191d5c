"""Settings against a reference: differences over replicates and a plain word; published rows beside them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.comparisons import published_table
from analysis.cuts import cuts
from analysis.escaping import MISSING, for_csv, for_latex, for_markdown
from analysis.runs import Run, Runs
from vsrprune.errors import UserError
from vsrprune.results.curves import CurveGap, gap_over_replicates
from vsrprune.results.replicates import (
    SPLITS,
    Compared,
    Replicated,
    caption,
    compared,
    over_networks,
    psnr_difference,
    psnr_over_networks,
)
from vsrprune.results.result import BELOW_BASELINE, NO_TRUTH

Cells = Mapping[tuple[str, str], Mapping[str, Sequence[Run]]]  # group and name of a setting, column, jobs of its seeds

HEADINGS = ("setting", "dense networks", "plans", "runs", "PSNR (dB)", "difference", "verdict", "p (Holm)", "units cut",
            "MACs kept", "at equal MACs")  # fmt: skip
WORDS = ("setting", "verdict")  # columns of words; others hold numbers
NOTE = (
    "Difference of PSNR (dB) to the row called reference, over the replicates that both have. better or worse: by"
    " Student's t test over dense networks, with p by Holm's correction over all rows of this table. At equal MACs: the"
    " same to the reference's curve at the row's own MACs, straight between its ratios and not continued beyond. Where"
    " it does not reach, dB/%: what 1 % of the MACs is worth between the reference and its dense network."
)
BELOW = " \N{DAGGER}"  # after a setting's name
PUBLISHED_NOTE = "Published rows are others' numbers on the same clips and channel, not of runs here; source: "


@dataclass(frozen=True)
class Evidence:
    """A setting at one ratio. against: its difference to the reference, None for the reference itself.

    at_equal_macs: the difference to the reference's curve at the row's MACs, None where it does not reach; slope: what
    1 % of the MACs is worth then (dB), see `_slope`.
    published: the source of numbers that no run here gave; such a row has nothing behind it. below_baseline: whether
    its dense network is worse than what outputs are to improve on. to_dense: whether no truth was seen, so that PSNR is
    to the dense network's output.
    """

    group: str
    column: str
    name: str
    psnr: Replicated
    against: Compared | None
    units_cut: float
    macs_kept: float
    below_baseline: bool = False
    published: str = ""
    at_equal_macs: CurveGap | None = None
    slope: float = math.nan
    to_dense: bool = False

    @property
    def verdict(self) -> str:
        """A plain word."""
        if self.published:
            return "published"
        if self.against is None:
            return "reference"
        few = self.common < self.psnr.networks and self.common
        return self.against.verdict + (f" ({self.common} in common)" if few else "")

    @property
    def common(self) -> int:
        """How many replicates it has in common with the reference."""
        return self.against.difference.count if self.against and self.against.difference else 0


def evidence_rows(cells: Cells, runs: Runs, against: str = "", split: str = "val") -> list[Evidence]:
    """A row per group, ratio and setting, then the published ones.

    against: name of the setting that others are compared with; the first of each group without one, or where the
    group does not have it. Raises UserError where no group does. split: see `psnr_over_networks`.
    """
    names = list(dict.fromkeys(name for _, name in cells))
    if against and against not in names:
        raise UserError(f"--against must name a setting of the table: {'; '.join(names)}; got {against!r}")
    places, differences = [], []
    for group in dict.fromkeys(group for group, _ in cells):
        settings = {name: columns for (other, name), columns in cells.items() if other == group}
        for column in cuts(runs.finished):
            jobs = {name: columns[column] for name, columns in settings.items() if column in columns}
            if not jobs:
                continue
            # A group may lack the setting that --against names; its own first one stands in.
            reference = against if against in jobs else next(iter(jobs))
            for name, chosen in jobs.items():
                curve = [run for of in settings[reference].values() for run in of]
                gap = None if name == reference else gap_over_replicates([(chosen, curve)], SPLITS[split])
                places.append((group, column, name, chosen, None if name == reference else jobs[reference], gap))
                differences.append(None if name == reference else psnr_difference(chosen, jobs[reference], split))
    judged = compared(differences)
    rows = [
        _row((group, column, name), chosen, None if before is None else words, split, gap, before)
        for (group, column, name, chosen, before, gap), words in zip(places, judged, strict=True)
    ]
    # Published numbers are of the held-out clips of published sets.
    return rows + (_published_rows(runs) if split == "val" else [])


def _row(
    place: tuple[str, str, str],
    jobs: Sequence[Run],
    against: Compared | None,
    split: str,
    gap: CurveGap | None,
    reference: Sequence[Run] | None,
) -> Evidence:
    return Evidence(
        *place,
        psnr_over_networks(jobs, split),
        against,
        sum(run.result.units_cut for run in jobs) / len(jobs),
        sum(run.result.macs_kept for run in jobs) / len(jobs),
        below_baseline=any(run.result.dense_below_baseline for run in jobs),
        at_equal_macs=gap,
        slope=math.nan if reference is None or gap is not None else _slope(reference, split),
        to_dense=not all(run.result.sees_truth for run in jobs),
    )


def _slope(reference: Sequence[Run], split: str) -> float:
    """What 1 % of the MACs is worth between jobs and their dense networks, in dB; NaN where they keep all MACs."""
    kept = sum(run.result.macs_kept for run in reference) / len(reference)
    dense = [(run.result.test if split == "test" else run.result.quality)["dense"].psnr for run in reference]
    worth = sum(dense) / len(dense) - psnr_over_networks(reference, split).mean
    return worth / (100 * (1 - kept)) if kept < 1 else math.nan


def _published_rows(runs: Runs) -> list[Evidence]:
    table = published_table(runs)
    columns = (table[name] for name in ("method", "psnr", "macs_kept", "source"))
    return [
        Evidence("published", "", method, over_networks([[psnr]]), None, math.nan, macs_kept, published=source)
        for method, psnr, macs_kept, source in zip(*columns, strict=True)
    ]


def _texts(row: Evidence, plus_minus: str) -> list[str]:
    """The row's cells, without marks of any format."""
    psnr, against = row.psnr, row.against
    if row.published:
        blank = MISSING
        return [row.name, blank, blank, blank, f"{psnr.mean:.2f}", blank, row.verdict, blank, blank,
                _share(row.macs_kept), blank]  # fmt: skip
    return [
        row.name + (BELOW if row.below_baseline else ""),
        *map(str, (psnr.networks, psnr.plans, psnr.runs)),
        psnr.text(plus_minus),
        (against.text(plus_minus) if against else "") or MISSING,
        row.verdict,
        MISSING if against is None or math.isnan(against.p_value) else f"{against.p_value:.3f}",
        _share(row.units_cut),
        _share(row.macs_kept),
        _at_equal_macs(row).replace("±", plus_minus),
    ]


def _at_equal_macs(row: Evidence) -> str:
    if row.at_equal_macs is not None:
        return row.at_equal_macs.text
    return MISSING if math.isnan(row.slope) else f"{row.slope:.3f} dB/%"


def _share(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.1%}"


def _title(row: Evidence) -> str:
    return ", ".join(text for text in (row.group, row.column) if text)


def _notes(rows: Sequence[Evidence]) -> list[str]:
    sources = dict.fromkeys(row.published for row in rows if row.published)
    notes = [f"{NOTE} {caption([row.psnr for row in rows if not row.published])}"]
    notes += [f"{BELOW.strip()} {BELOW_BASELINE}"] if any(row.below_baseline for row in rows) else []
    notes += [f"With data.truth=none {NO_TRUTH}."] if any(row.to_dense for row in rows) else []
    return notes + ([PUBLISHED_NOTE + "; ".join(sources) + "."] if sources else [])


def _by_title(rows: Sequence[Evidence]) -> dict[str, list[Evidence]]:
    titled: dict[str, list[Evidence]] = {}
    for row in rows:
        titled.setdefault(_title(row), []).append(row)
    return titled


def evidence_markdown(rows: Sequence[Evidence]) -> str:
    """GitHub's tables; a group and ratio is a row of its own."""
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "|".join("---" if name in WORDS else "---:" for name in HEADINGS) + "|",
    ]
    for title, of_title in _by_title(rows).items():
        lines.append(f"| *{for_markdown(title)}* |" + " |" * (len(HEADINGS) - 1))
        lines += ["| " + " | ".join(map(for_markdown, _texts(row, "±"))) + " |" for row in of_title]
    return "\n".join([*lines, "", *map(for_markdown, _notes(rows)), ""])


def evidence_csv(rows: Sequence[Evidence]) -> str:
    """A line per row, numbers in full, the source of published ones last."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["group", "column", "setting", "dense_networks", "plans", "runs", "psnr_db", "psnr_half_width_db",
         "order_deviation_db", "common_networks", "difference_db", "difference_half_width_db", "verdict", "p_holm",
         "units_cut", "macs_kept", "dense_below_baseline", "published_source", "difference_at_equal_macs_db",
         "half_width_at_equal_macs_db", "slope_db_per_percent"]
    )  # fmt: skip
    for row in rows:
        psnr, difference = row.psnr, row.against.difference if row.against else None
        equal = row.at_equal_macs
        writer.writerow(
            [
                *map(for_csv, (row.group, row.column, row.name)),
                *(["", "", ""] if row.published else [psnr.networks, psnr.plans, psnr.runs]),
                _full(psnr.mean),
                _full(psnr.over_networks.half_width),
                _full(psnr.order_deviation),
                row.common or "",
                _full(difference.mean if difference else math.nan),
                _full(difference.half_width if difference else math.nan),
                row.verdict,
                _full(row.against.p_value if row.against else math.nan),
                _full(row.units_cut),
                _full(row.macs_kept),
                str(row.below_baseline).lower(),
                for_csv(row.published),
                _full(equal.psnr.mean if equal else math.nan),
                _full(equal.psnr.half_width if equal else math.nan),
                _full(row.slope),
            ]
        )
    return out.getvalue()


def _full(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def evidence_latex(rows: Sequence[Evidence]) -> str:
    """A booktabs tabular with its notes in comments."""
    lines = [f"% {for_latex(note)}" for note in _notes(rows)]
    lines += [rf"\begin{{tabular}}{{{''.join('l' if name in WORDS else 'r' for name in HEADINGS)}}}", r"\toprule"]
    lines += [" & ".join(map(for_latex, HEADINGS)) + r" \\", r"\midrule"]
    for title, of_title in _by_title(rows).items():
        lines.append(rf"\multicolumn{{{len(HEADINGS)}}}{{l}}{{\emph{{{for_latex(title)}}}}} \\")
        lines += [" & ".join(map(for_latex, _texts(row, "±"))) + r" \\" for row in of_title]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
