"""PSNR against a cost, a panel for each group of runs that can be compared."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.drawings import NAME_IN_LEGEND, NOTE_COLUMN, NOTE_PAGE, legend_below, note_above
from analysis.style import COLUMN_IN, GREY, PAGE_IN, SPARE, colours, line_styles, markers

ABREAST = 2  # panels
BASELINE_TAKES = 0.5  # of the height at most: a baseline further off is named at the edge
EDGE = 0.12  # of the height, which the name takes there


@dataclass(frozen=True)
class Panel:
    """A group: its name, rows of `replicate_table`, their front, published rows, and the dense network's PSNR (dB).

    dense_psnr: NaN where PSNR is to the dense network itself.
    """

    table: pd.DataFrame
    front: pd.DataFrame
    published: pd.DataFrame
    dense_psnr: float
    title: str = ""


def draw_quality(
    panels: Sequence[Panel],
    cost: str,
    label: str,
    notes: Sequence[str] = (),
    gaps: Mapping[str, str] = MappingProxyType({}),
) -> Figure:
    """PSNR against a share of the dense network's cost: a line per series with its 95 % band over dense networks.

    Each panel has its Pareto front, its dense network at 1, its baseline, and published points. A baseline that would
    take over half of the height is named at the edge it lies beyond. notes: sentences that a reader should know, on
    top. gaps: what the legend says behind the name of a series.
    """
    alone = len(panels) == 1
    rows = -(-len(panels) // ABREAST)
    size = (COLUMN_IN, 2.5) if alone else (PAGE_IN, 2.1 * rows + 0.6)
    figure, grid = plt.subplots(rows, 1 if alone else ABREAST, figsize=size, squeeze=False)
    names = list(dict.fromkeys(name for panel in panels for name in panel.table["series"]))
    # The same in all panels.
    looks = dict(zip(names, zip(_told_apart(names), markers(names).values(), line_styles(names).values(), strict=True),
                     strict=True))  # fmt: skip
    every = list(grid.flat)
    for axes, panel in zip(every, panels, strict=False):
        _draw_panel(axes, panel, cost, looks)
        axes.set_xlabel(label)
        axes.set_ylabel("PSNR (dB)")
    for axes in every[len(panels) :]:
        axes.remove()
    if len({panel.dense_psnr for panel in panels}) == 1:  # panels of one group, which compare
        limits = [axes.get_ylim() for axes in every[: len(panels)]]
        for axes in every[: len(panels)]:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    legend_below(figure, *every[: len(panels)], more=gaps)
    note_above(figure, notes, NOTE_COLUMN if alone else NOTE_PAGE)
    return figure


def _told_apart(names: Sequence[str]) -> list[str]:
    """A colour for each series: its own, or another where over two share one, which lines and marks do not part."""
    own = list(colours(names).values())
    return own if max(Counter(own).values(), default=0) <= 2 else [SPARE[at % len(SPARE)] for at in range(len(names))]


def _draw_panel(axes: Axes, panel: Panel, cost: str, looks: Mapping[str, tuple[str, str, str]]) -> None:
    front = panel.front
    axes.plot(
        front[cost], front["psnr"], color="0.8", linewidth=4, solid_capstyle="round", label="Pareto front", zorder=0
    )
    for name, rows in panel.table.groupby("series", sort=False):
        series, line = str(name), rows.sort_values(cost)
        colour, mark, style = looks[series]
        axes.plot(line[cost], line["psnr"], color=colour, marker=mark, linestyle=style, label=series)
        # A setting of one dense network has no interval.
        band = line.dropna(subset=["half_width"])
        axes.fill_between(
            band[cost], band["psnr"] - band["half_width"], band["psnr"] + band["half_width"],
            color=colour, alpha=0.18, linewidth=0,
        )  # fmt: skip
    if not math.isnan(panel.dense_psnr):
        axes.plot([1.0], [panel.dense_psnr], "*", color="black", markersize=7, label="dense")
    if cost == "macs_kept" and not panel.published.empty:
        axes.plot(panel.published[cost], panel.published["psnr"], "D", markerfacecolor="none", color=GREY,
                  label="published")  # fmt: skip
        for _, row in panel.published.iterrows():
            axes.annotate(
                row["method"], (row[cost], row["psnr"]), xytext=(3, 3), textcoords="offset points", fontsize=5
            )
    _draw_baselines(axes, panel.table.groupby("baseline", sort=False)["psnr_baseline"].mean())
    axes.set_title(textwrap.fill(panel.title, NAME_IN_LEGEND))


def _draw_baselines(axes: Axes, baselines: pd.Series) -> None:
    """A dashed line for each, or its name and PSNR at the edge where the line would take the height of all else."""
    low, high = axes.get_ylim()
    height = high - low
    far: dict[str, list[str]] = {"below": [], "above": []}
    for name, psnr in baselines.items():
        if max(low - psnr, psnr - high) > height * BASELINE_TAKES / (1 - BASELINE_TAKES):
            far["below" if psnr < low else "above"].append(
                f"{name}: {psnr:.2f} dB, {'below' if psnr < low else 'above'}"
            )
        else:
            axes.axhline(float(psnr), color=GREY, linewidth=0.8, linestyle="--", label=str(name))
    for side, names in far.items():
        if names:
            low, high = axes.get_ylim()
            room = EDGE * (high - low)
            axes.set_ylim(*((low - room, high) if side == "below" else (low, high + room)))
            axes.text(0.02, 0.02 if side == "below" else 0.98, "; ".join(names), transform=axes.transAxes, color=GREY,
                      fontsize=5.5, va="bottom" if side == "below" else "top")  # fmt: skip
