"""Settings against a reference: differences, how many clips agree, and a plain word; published rows beside them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from analysis.comparisons import published_table
from analysis.runs import Run, Runs
from vsrprune.errors import UserError
from vsrprune.results.intervals import Interval, PairedTest, interval, paired_test
from vsrprune.results.settings import psnr_difference, psnr_over_seeds, seeds_of

Cells = Mapping[tuple[str, str], Mapping[str, Sequence[Run]]]  # group and name of a setting, column, jobs of its seeds

HEADINGS = ("setting", "seeds", "PSNR (dB)", "difference", "verdict", "clips better", "p", "units cut", "MACs kept")
NOTE = (
    "Difference of PSNR (dB) to the row called reference, paired over seeds, ± half the 95 % interval; better or worse"
    " where the interval leaves zero out. Clips better: of all pairs of a clip and a seed; p: two-sided Wilcoxon"
    " signed-rank test over them. Clips of one seed share a network, so p speaks of these networks, the interval of"
    " networks trained anew."
)
PUBLISHED_NOTE = "Published rows are others' numbers on the same clips and channel, not of runs here; source: "


@dataclass(frozen=True)
class Evidence:
    """A setting at one ratio. difference and clips: against the reference; None where no seed or clip is common.

    published: the source of numbers that no run here gave; such a row has no seeds.
    """

    group: str
    column: str
    name: str
    psnr: Interval
    difference: Interval | None
    clips: PairedTest | None
    units_cut: float
    macs_kept: float
    is_reference: bool = False
    published: str = ""

    @property
    def verdict(self) -> str:
        """A plain word."""
        if self.published:
            return "published"
        if self.is_reference:
            return "reference"
        if self.difference is None:
            return "no common seed"
        return "one seed" if self.difference.count == 1 else self.difference.verdict


def evidence_rows(cells: Cells, runs: Runs, against: str = "") -> list[Evidence]:
    """A row per group, ratio and setting, then the published ones.

    against: name of the setting that others are compared with; the first of each group without one, or where the
    group does not have it. Raises UserError where no group does.
    """
    names = list(dict.fromkeys(name for _, name in cells))
    if against and against not in names:
        raise UserError(f"--against must name a setting of the table: {'; '.join(names)}; got {against!r}")
    rows = []
    for group in dict.fromkeys(group for group, _ in cells):
        settings = {name: columns for (other, name), columns in cells.items() if other == group}
        for column in sorted({column for columns in settings.values() for column in columns}):
            jobs = {name: columns[column] for name, columns in settings.items() if column in columns}
            # A group may lack the setting that --against names; its own first one stands in.
            reference = jobs.get(against) or next(iter(jobs.values()))
            rows += [_row(group, column, name, chosen, reference) for name, chosen in jobs.items()]
    return rows + _published_rows(runs)


def _row(group: str, column: str, name: str, jobs: Sequence[Run], reference: Sequence[Run]) -> Evidence:
    itself = jobs is reference
    return Evidence(
        group,
        column,
        name,
        psnr_over_seeds(jobs),
        None if itself else psnr_difference(jobs, reference),
        None if itself else paired_test(_by_clip(jobs), _by_clip(reference)),
        sum(run.result.units_cut for run in jobs) / len(jobs),
        sum(run.result.macs_kept for run in jobs) / len(jobs),
        is_reference=itself,
    )


def _by_clip(jobs: Sequence[Run]) -> dict[object, float]:
    return {
        (clip, seeds_of(run.result)): values["psnr"]
        for run in jobs
        for clip, values in run.result.quality["finetuned"].clips.items()
    }


def _published_rows(runs: Runs) -> list[Evidence]:
    table = published_table(runs)
    columns = (table[name] for name in ("method", "psnr", "macs_kept", "source"))
    return [
        Evidence("published", "", method, interval([psnr]), None, None, math.nan, macs_kept, published=source)
        for method, psnr, macs_kept, source in zip(*columns, strict=True)
    ]


def _texts(row: Evidence, plus_minus: str) -> list[str]:
    """The row's cells, without marks of any format."""
    psnr, difference, clips = row.psnr, row.difference, row.clips
    if row.published:
        return [row.name, "", f"{psnr.mean:.2f}", "", row.verdict, "", "", "", _share(row.macs_kept)]
    return [
        row.name,
        str(psnr.count),
        f"{psnr.mean:.3f}" + _spread(psnr, plus_minus),
        "" if difference is None else f"{difference.mean:+.3f}" + _spread(difference, plus_minus),
        row.verdict,
        "" if clips is None else f"{clips.better} of {clips.pairs}",
        "" if clips is None else f"{clips.p_value:.3f}",
        _share(row.units_cut),
        _share(row.macs_kept),
    ]


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"


def _spread(values: Interval, plus_minus: str) -> str:
    return "" if math.isnan(values.half_width) else f" {plus_minus} {values.half_width:.3f}"


def _title(row: Evidence) -> str:
    return ", ".join(text for text in (row.group, row.column) if text)


def _notes(rows: Sequence[Evidence]) -> list[str]:
    sources = dict.fromkeys(row.published for row in rows if row.published)
    return [NOTE, *([PUBLISHED_NOTE + "; ".join(sources) + "."] if sources else [])]


def _by_title(rows: Sequence[Evidence]) -> dict[str, list[Evidence]]:
    titled: dict[str, list[Evidence]] = {}
    for row in rows:
        titled.setdefault(_title(row), []).append(row)
    return titled


def evidence_markdown(rows: Sequence[Evidence]) -> str:
    """GitHub's tables; a group and ratio is a row of its own."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---:|---:|---:|---|" + "---:|" * (len(HEADINGS) - 5)]
    for title, of_title in _by_title(rows).items():
        lines.append(f"| *{title}* |" + " |" * (len(HEADINGS) - 1))
        lines += ["| " + " | ".join(_texts(row, "±")) + " |" for row in of_title]
    return "\n".join([*lines, "", *_notes(rows), ""])


def evidence_csv(rows: Sequence[Evidence]) -> str:
    """A line per row, numbers in full, the source of published ones last."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["group", "column", "setting", "seeds", "psnr_db", "psnr_half_width_db", "difference_db",
         "difference_half_width_db", "verdict", "clip_pairs", "clip_pairs_better", "p", "units_cut", "macs_kept",
         "published_source"]
    )  # fmt: skip
    for row in rows:
        difference, clips = row.difference, row.clips
        writer.writerow(
            [
                row.group,
                row.column,
                row.name,
                "" if row.published else row.psnr.count,
                _full(row.psnr.mean),
                _full(row.psnr.half_width),
                _full(difference.mean if difference else math.nan),
                _full(difference.half_width if difference else math.nan),
                row.verdict,
                clips.pairs if clips else "",
                clips.better if clips else "",
                _full(clips.p_value if clips else math.nan),
                _full(row.units_cut),
                _full(row.macs_kept),
                row.published,
            ]
        )
    return out.getvalue()


def _full(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def evidence_latex(rows: Sequence[Evidence], escaped: Callable[[str], str]) -> str:
    """A booktabs tabular with its notes in comments."""
    lines = [f"% {escaped(note)}" for note in _notes(rows)]
    lines += [rf"\begin{{tabular}}{{lrrrl{'r' * (len(HEADINGS) - 5)}}}", r"\toprule"]
    lines += [" & ".join(map(escaped, HEADINGS)) + r" \\", r"\midrule"]
    for title, of_title in _by_title(rows).items():
        lines.append(rf"\multicolumn{{{len(HEADINGS)}}}{{l}}{{\emph{{{escaped(title)}}}}} \\")
        lines += [" & ".join(map(escaped, _texts(row, "±"))) + r" \\" for row in of_title]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
