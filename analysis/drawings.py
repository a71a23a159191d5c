"""Tidy tables as figures. Every function takes a table and gives a Figure at column or page width."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from analysis.over_time import PARTS_OF_ERROR
from analysis.series import left_out_note
from analysis.style import COLUMN_IN, GREY, PAGE_IN, PARTS, SPARE, colours
from vsrprune.results.intervals import interval

NAME_LINE_IN = 0.09  # that a line of a name takes of a column's width
NAME_IN_LEGEND = 55  # letters of a line of a long name, in a figure as wide as a column
LINES_IN_LEGEND, LINE_IN = 4, 0.13  # that a figure has room for, and inches of each beyond
NOTE_COLUMN, NOTE_PAGE = 75, 150  # letters of a line of a note
NAME_COLUMN = 36  # of a line that names what is compared
NAMES_OF_COLUMN = 22  # longer ones make a figure as wide as a page


def legend_below(figure: Figure, *panels: Axes, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """Below the axes, where it hides no point; what several have once; as many columns as fit.

    more: what stands behind a name.
    """
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    names = [f"{name}{more.get(name, '')}" for name in found]
    longest = max(map(len, names), default=0)
    wide = figure.get_size_inches()[0] / COLUMN_IN
    _legend(figure, list(found.values()), names, 3 if longest <= 16 * wide else 2 if longest <= 25 * wide else 1)


def _legend(figure: Figure, handles: Sequence[Any], names: Sequence[str], columns: int) -> None:
    """The legend, long names in several lines, for which the figure grows."""
    folded = [textwrap.fill(name, NAME_IN_LEGEND) for name in names] if columns == 1 else names
    lines = sum(name.count("\n") + 1 for name in folded) if columns == 1 else -(-len(names) // columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LINE_IN * max(0, lines - LINES_IN_LEGEND))
    figure.legend(handles, folded, loc="outside lower center", ncols=columns, columnspacing=1.2, handlelength=2)


def draw_differences(table: pd.DataFrame, notes: Sequence[str] = ()) -> Figure:
    """Ablations: a bar per knob, value and share cut, PSNR minus that of the reference value, with 95 % intervals.

    notes: sentences that a reader should know, above the bars.
    """
    # Rows at equal MACs say where; the others what their MACs differ by, since that alone may make the difference.
    equal = table.get("equal", pd.Series(False, index=table.index))
    names = _compared_names(table.assign(cut=table["cut"].where(~equal, "")))
    lines = max(name.count("\n") for name in names) + 1
    long = max(len(line) for name in names for line in name.split("\n")) > NAMES_OF_COLUMN
    figure, axes = plt.subplots(figsize=(PAGE_IN if long else COLUMN_IN, 0.7 + 0.14 * max(2.4, lines) * len(table)))
    # barh counts from below, and people read from above.
    places = np.arange(len(table))[::-1]
    beyond = {"better": "#009E73", "worse": "#D55E00"}
    axes.barh(
        places, table["difference"], xerr=table["half_width"], height=0.55,
        color=[beyond.get(verdict, "0.75") for verdict in table["verdict"]], ecolor="black", capsize=2,
        hatch=["////" if verdict == "unequal MACs" else "" for verdict in table["verdict"]], edgecolor="white",
        linewidth=0,
        error_kw={"linewidth": 0.8},
    )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(3))  # words stand on both sides, which leaves a narrow axis
    axes.set_yticks(places, names)
    for place, (_, row), same in zip(places, table.iterrows(), equal, strict=True):
        count = f", {row['replicates']} networks" if row["replicates"] > 1 else ""
        where = f"at {row['cut']}" if same else f"MACs kept {100 * row['macs']:+.1f} points"
        text = f"{row['verdict']}{count}\n{where}"
        # Beside the axes, where the layout leaves as much room as the words take.
        axes.text(1.03, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=5.5)
    axes.set_xlabel(f"difference of PSNR{' at equal MACs' if equal.all() else ''} (dB), 95 % interval")
    axes.tick_params(axis="y", length=0)
    note_above(figure, notes, NOTE_COLUMN)
    return figure


def _compared_names(table: pd.DataFrame) -> list[str]:
    """What each row of a table of differences compares, in short lines; the share cut where rows differ in it."""
    several = table["cut"].nunique() > 1
    return [
        "\n".join(
            line
            for text in (
                f"{row['knob']}: {row['value']}",
                f"against {row['reference']}",
                str(row["cut"]) if several else "",
            )
            for line in textwrap.wrap(text, NAME_COLUMN)
        )
        for _, row in table.iterrows()
    ]


def note_above(figure: Figure, notes: Sequence[str], width: int) -> None:
    """Sentences above a figure, in lines of at most `width` letters, for which the figure grows."""
    if notes:
        text = "\n".join(textwrap.fill(f"Note: {note}.", width) for note in notes)
        figure.suptitle(text, fontsize=5.5)
        across, height = figure.get_size_inches()
        figure.set_size_inches(across, height + NAME_LINE_IN * text.count("\n"))


POINTS = {"after_cut": "right after the cut", "finetuned": "after fine-tuning"}
ERRORS: dict[str, tuple[Literal["-", "--", ":"], str]] = {
    "made_here": ("-", "made here"),
    "propagated": ("--", "propagated"),
    "total": (":", "whole error"),
}
MARKS = {"-": "o", "--": "s", ":": "^"}  # by line: a line of one point shows no style
SERIES_SHOWN = 5  # over frames


def draw_error_over_frames(errors: pd.DataFrame, gaps: pd.DataFrame, notes: Sequence[str] = ()) -> Figure:
    """Over the frame index, a row of panels per branch: error of the hidden states after the cut and after fine-tuning.

    Below them the PSNR that is lost against the dense network. notes: sentences that a reader should know, on top.
    """
    branches, drawn = list(dict.fromkeys(errors["branch"])), _drawn_lines(errors)
    series = list(dict.fromkeys(gaps["series"]))
    colour = _colours_in_order(series)
    left_out = left_out_note([name for name in series if name not in colour])
    networks = gaps.groupby("series")["network"].nunique()[list(colour)]
    bands = f"bands are 95 % intervals over {_from_to(networks)} dense networks" if networks.max() > 1 else ""
    notes = [note for note in (*notes, left_out, bands) if note]
    figure = plt.figure(figsize=(COLUMN_IN, 1.0 * len(branches) + 2.0))
    grid = figure.add_gridspec(len(branches) + 1, len(POINTS))
    for row, branch in enumerate(branches):
        first: Axes | None = None
        for column, (point, title) in enumerate(POINTS.items()):
            axes = figure.add_subplot(grid[row, column], sharey=first)
            rows = errors[(errors["branch"] == branch) & (errors["point"] == point)]
            _draw_errors(axes, rows, "frame", colour, drawn)
            axes.set_title(title if row == 0 else "")
            axes.tick_params(labelbottom=row == len(branches) - 1, labelleft=first is None)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            first = first or axes
        assert first is not None
        # Not before both panels are drawn, which share the axis: it would keep its upper end.
        first.set_ylim(bottom=0)
        first.set_ylabel(f"{branch}:\nrelative error")
    _draw_gaps(figure.add_subplot(grid[len(branches), :]), gaps, colour)
    _legend_of_errors(figure, colour, drawn)
    note_above(figure, notes, NOTE_COLUMN)
    return figure


def _colours_in_order(names: Sequence[str]) -> dict[str, Any]:
    """Colours of an ordered series, the first black; of many, some that are spread over it."""
    shown = np.unique(np.linspace(0, len(names) - 1, min(len(names), SERIES_SHOWN)).round().astype(int))
    shades = plt.get_cmap("plasma")(np.linspace(0, 0.85, len(shown)))
    return {names[place]: "black" if number == 0 else shades[number] for number, place in enumerate(shown)}


def _drawn_lines(table: pd.DataFrame) -> tuple[str, ...]:
    """The parts of the error, the whole of it where its parts are not known, and nothing where no state is compared."""
    if table.empty:
        return ()
    return ("total",) if table[list(PARTS_OF_ERROR)].isna().all(axis=None) else PARTS_OF_ERROR


def _draw_errors(axes: Axes, table: pd.DataFrame, over: str, colour: Mapping[str, Any], drawn: Sequence[str]) -> None:
    """A line per series and column of those drawn, means over jobs."""
    for series, shade in colour.items():
        rows = table[table["series"] == series].groupby(over)
        for column in drawn:
            mean = rows[column].mean().dropna()
            axes.plot(mean.index, mean, color=shade, linestyle=ERRORS[column][0], linewidth=0.9)
            if over == "frame":
                _draw_band(axes, table[table["series"] == series], column, shade)


def _legend_of_errors(
    figure: Figure, colour: Mapping[str, Any], drawn: Sequence[str], marks: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Below all panels: the styles of what is drawn, and the colours of series where there are several."""
    handles = [
        Line2D([], [], color=GREY, linestyle=style, marker=marks.get(style), label=name)
        for style, name in (ERRORS[column] for column in drawn)
    ]
    if len(colour) > 1:
        handles += [Line2D([], [], color=shade, label=name) for name, shade in colour.items()]
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = 4 if longest <= 10 else 3 if longest <= 16 else 2 if longest <= 27 else 1
    _legend(figure, handles, [str(handle.get_label()) for handle in handles], columns)


def _draw_band(axes: Axes, rows: pd.DataFrame, column: str, shade: Any) -> None:
    """The 95 % interval over dense networks, the runs of one averaged first; nothing where there is one network."""
    means = rows.dropna(subset=column).groupby(["frame", "network"])[column].mean()
    over = {float(str(frame)): interval(of.to_list()) for frame, of in means.groupby("frame")}
    frames = [frame for frame, of in over.items() if of.count > 1]
    low, high = ([over[at].mean + sign * over[at].half_width for at in frames] for sign in (-1, 1))
    axes.fill_between(frames, low, high, color=shade, alpha=0.15, linewidth=0)


def _from_to(counts: pd.Series) -> str:
    """Such as `3`, or `2 to 3` where they differ."""
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def _draw_gaps(axes: Axes, table: pd.DataFrame, colour: Mapping[str, Any]) -> None:
    for series, shade in colour.items():
        rows = table[table["series"] == series]
        mean = rows.groupby("frame")["psnr_gap"].mean()
        axes.plot(mean.index, mean, color=shade, marker="o", markersize=2)
        _draw_band(axes, rows, "psnr_gap", shade)
    clips = table.groupby("frame")["clips"].first()
    ends = clips.index[clips.diff() < 0]
    for frame in ends:  # the mean is over fewer clips from here on, which is no accumulation
        axes.axvline(frame - 0.5, color=GREY, linestyle=":", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlabel("frame (dotted: a clip ends)" if len(ends) else "frame")
    axes.set_ylabel("PSNR lost\nto dense (dB)")


def draw_error_by_cut(table: pd.DataFrame, notes: Sequence[str] = ()) -> Figure:
    """Error of the hidden states, and its parts, against the share of the MACs that is cut: after the cut, fine-tuned.

    notes: sentences that a reader should know, above the panels.
    """
    figure, panels = plt.subplots(1, len(POINTS), figsize=(COLUMN_IN, 2.3), sharey=True)
    names, drawn = list(dict.fromkeys(table["series"])), dict.fromkeys((*_drawn_lines(table), "total"))
    colour = colours(names)
    if len(set(colour.values())) < len(names):  # the style of a line is its part, and tells no series apart
        colour = dict(zip(names, SPARE, strict=False))
    for axes, (point, title) in zip(panels, POINTS.items(), strict=True):
        rows = table[table["point"] == point].assign(cut=lambda rows: 100 * rows["cut"])
        _draw_errors(axes, rows, "cut", colour, list(drawn))
        for line in axes.get_lines():
            line.set_marker(MARKS[str(line.get_linestyle())])
            line.set_clip_on(False)
        axes.set_title(title)
        axes.set_xlim(left=0)
        axes.set_xlabel("MACs cut (%)")
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("hidden states:\nrelative error")
    _legend_of_errors(figure, colour, list(drawn), MARKS)
    note_above(figure, notes, NOTE_COLUMN)
    return figure


def draw_score_distributions(table: pd.DataFrame, name: str) -> Figure:
    """Scores of kept and of cut units, a panel per part of the network."""
    parts = list(dict.fromkeys(table["part"]))
    figure, panels = plt.subplots(1, len(parts), figsize=(PAGE_IN, 2.1), sharey=True, squeeze=False)
    # The same edges in every panel, so that bars of different parts compare.
    edges = np.linspace(float(table["score"].min()), float(table["score"].max()), 31)
    for axes, part in zip(panels[0], parts, strict=True):
        rows = table[table["part"] == part]
        kept, cut = (rows.loc[rows["kept"] == flag, "score"].to_numpy() for flag in (True, False))
        axes.hist([kept, cut], edges, stacked=True, color=["#0072B2", "#E69F00"], label=["kept", "cut"])
        axes.set_title(f"{part}: {len(cut)} of {len(rows)} cut")
        axes.set_xlabel("score")
    panels[0][0].set_ylabel("units")
    legend_below(figure, panels[0][0])
    figure.suptitle(name, fontsize=7)
    return figure


def draw_gate_trajectories(table: pd.DataFrame, name: str) -> Figure:
    """Mean |gamma| of the cut units of each layer while the penalty grows; lambda on the right."""
    figure, axes = plt.subplots(figsize=(COLUMN_IN, 2.5))
    parts = list(dict.fromkeys(table["part"]))
    for part, colour in zip(parts, PARTS, strict=False):
        for number, (_, line) in enumerate(table[table["part"] == part].groupby("layer", sort=False)):
            axes.plot(
                line["step"], line["gate"], color=colour, linewidth=0.8, alpha=0.8, label=part if number == 0 else None
            )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step of sparsify")
    axes.set_ylabel(r"mean $|\gamma|$ of cut units, by layer")
    other = axes.twinx()
    steps = table.drop_duplicates("step")
    other.plot(steps["step"], steps["lambda"], color=GREY, linestyle=":", label=r"$\lambda$ (right)")
    other.set_ylim(bottom=0)
    other.set_ylabel(r"penalty $\lambda$", color=GREY)
    other.spines["right"].set_visible(True)
    # Both axes in one legend: matplotlib makes one for each.
    handles = axes.get_legend_handles_labels()[0] + other.get_legend_handles_labels()[0]
    figure.legend(handles, [str(handle.get_label()) for handle in handles], loc="outside lower center", ncols=4)
    figure.suptitle(name, fontsize=7)
    return figure


def draw_qualitative(
    frames: Sequence[tuple[Path, tuple[int, int, int]]],
    rows: Sequence[Mapping[str, Path]],
    psnr: Sequence[Mapping[str, float]],
) -> Figure:
    """A row per clip: the whole frame with the crop framed, then the crops with PSNR (dB) under each.

    frames: picture of the whole frame, and x, y and side of the crop in it.
    """
    columns = list(rows[0])
    whole = _picture(frames[0][0])
    widths = [whole.shape[1] / whole.shape[0]] + [1.0] * len(columns)
    lines = 1 + max(name.count("\n") + 1 for name in columns)
    figure, panels = plt.subplots(
        len(rows), len(columns) + 1, figsize=(PAGE_IN, len(rows) * (PAGE_IN / sum(widths) + 0.09 + 0.095 * lines)),
        gridspec_kw={"width_ratios": widths}, squeeze=False,
    )  # fmt: skip
    for axes_row, (frame, (x, y, side)), crops, values in zip(panels, frames, rows, psnr, strict=True):
        axes_row[0].imshow(_picture(frame))
        axes_row[0].add_patch(Rectangle((x, y), side, side, fill=False, edgecolor="#E69F00", linewidth=1.2))
        for axes, name in zip(axes_row[1:], columns, strict=True):
            if name in crops:
                axes.imshow(_picture(crops[name]), interpolation="nearest")
            value = values.get(name)
            axes.set_xlabel(name if value is None else f"{name}\n{value:.2f} dB", fontsize=5.5, labelpad=2)
        for axes in axes_row:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
    return figure


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
