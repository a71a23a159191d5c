"""Which series a figure shows: at most eight to a panel, others in panels of their own or named as left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.comparisons import series_gaps
from analysis.naming import untold
from analysis.runs import CUT_BY, Runs

SERIES_SHOWN = 8  # in a panel: more lines are not told apart
FACETS = 6  # panels of one group of runs
NAMES_LISTED = 4  # of series that are left out, on the figure


@dataclass(frozen=True)
class Facet:
    """The runs of one panel. title: the value that they share and others have not; empty for all runs.

    without: the knob of that value, which names of series leave out.
    """

    title: str
    runs: Runs
    without: tuple[str, ...] = ()


def facets(runs: Runs) -> list[Facet]:
    """The runs in panels of at most SERIES_SHOWN series, by the values of one knob; in one panel where no knob does."""
    if len(_series(runs, runs, ())) <= SERIES_SHOWN:
        return [Facet("", runs)]
    found = []
    for knob in (knob for knob in runs.axes if knob not in CUT_BY):
        parts = _parted(runs, knob)
        if len(parts) <= FACETS and all(len(_series(runs, part.runs, (knob,))) <= SERIES_SHOWN for part in parts):
            found.append(parts)
    # The fewest panels, of which the first in the order of knobs.
    return min(found, key=len, default=[Facet("", runs)])


def _parted(runs: Runs, knob: str) -> list[Facet]:
    parts: dict[str, list[int]] = {}
    for place, run in enumerate(runs.finished):
        title = runs.label(run, without=[other for other in runs.varying if other != knob])
        parts.setdefault(title, []).append(place)
    return [Facet(title, Runs([runs.finished[place] for place in of], []), (knob,)) for title, of in parts.items()]


def _series(named: Runs, runs: Runs, without: Sequence[str]) -> list[str]:
    """The series of some runs by the labels that tell them from all of `named`."""
    left_out = [*CUT_BY, *untold(named), *without]
    return list(dict.fromkeys(named.label(run, without=left_out) for run in runs.finished))


def renamed(table: pd.DataFrame, runs: Runs, facet: Facet) -> pd.DataFrame:
    """The rows of `replicate_table(runs)` that are of a facet, their series named without what its title says."""
    inside = {id(run) for run in facet.runs.finished}
    firsts = [runs.finished[places[0]] for places in table["jobs"]]
    kept = [id(run) in inside for run in firsts]
    without = [*CUT_BY, *facet.without, *untold(runs)]
    names = [runs.label(run, without=without) for run, keep in zip(firsts, kept, strict=True) if keep]
    return table[kept].assign(series=names)


def left_out_series(groups: Sequence[Runs], most: int = SERIES_SHOWN) -> list[str]:
    """The series that figures of these groups leave out, where they have over `most`.

    Those that stay are the first, and those that lie highest above it at equal MACs; others follow in their order.
    """
    gaps: dict[str, list[float]] = {}
    for runs in groups:
        first = next(iter(_series(runs, runs, ())))
        gaps.setdefault(first, []).append(float("inf"))
        for name, gap in series_gaps(runs).items():
            gaps.setdefault(name, []).append(float("-inf") if gap is None else gap.psnr.mean)
    if len(gaps) <= most:
        return []
    best = sorted(gaps, key=lambda name: -max(gaps[name]))
    return [name for name in gaps if name not in best[:most]]


def left_out_note(names: Sequence[str]) -> str:
    """That series are left out of a figure, the first of them by name; empty where none are."""
    if not names:
        return ""
    more = f" and {len(names) - NAMES_LISTED} more" if len(names) > NAMES_LISTED else ""
    are = "is" if len(names) == 1 else "are"
    return f"{len(names)} series {are} left out: {'; '.join(names[:NAMES_LISTED])}{more}"
