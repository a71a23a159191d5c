"""Figures of a folder of runs: per-layer ratio heatmap, PSNR against MACs and against measured latency.

    python analysis/figures.py RUNS [RUNS ...] [--out figures]

Each figure is a table and a drawing: `draw_ratio_heatmap(ratio_table(runs))`. Vector PDF and PNG, byte-equal for the
same runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from runs import job_table, load_runs, ratio_table

from vsrprune.errors import UserError

COLUMN_IN, PAGE_IN = 3.3, 6.9
# Okabe and Ito's colours, told apart with any colour vision; one per rule everywhere.
COLOURS = {"rsc": "#0072B2", "aligned": "#D55E00", "inner": "#009E73"}
MARKERS = {"rsc": "o", "aligned": "s", "inner": "^"}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}


def draw_ratio_heatmap(table: pd.DataFrame) -> Figure:
    """Layers (rows, in network order) x jobs (columns); the number is the share of units cut."""
    layers, jobs = table.shape
    figure, axes = plt.subplots(figsize=(max(COLUMN_IN, 2.0 + 0.42 * jobs), 0.9 + 0.14 * layers))
    image = axes.imshow(table.to_numpy(dtype=float), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(layers), [str(index[2]) for index in table.index], fontsize=6)
    axes.set_xticks(range(jobs), [str(job).replace(",", "\n") for job in table.columns], rotation=90, fontsize=6)
    if layers <= 40:
        for (row, column), value in _cells(table):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=5,
                      color="black" if value > 0.55 else "white")  # fmt: skip
    parts = [str(index[0]) for index in table.index]
    for row in range(1, layers):
        if parts[row] != parts[row - 1]:
            axes.axhline(row - 0.5, color="white", linewidth=2)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="share of units cut", shrink=0.6)
    return figure


def _cells(table: pd.DataFrame) -> list[tuple[tuple[int, int], float]]:
    values = table.to_numpy(dtype=float)
    return [
        ((row, column), float(values[row, column]))
        for row in range(values.shape[0])
        for column in range(values.shape[1])
        if values[row, column] == values[row, column]
    ]


def draw_quality(table: pd.DataFrame, cost: str, dense_cost: str | None, label: str) -> Figure:
    """PSNR after fine-tuning against a cost, a line per residual rule; seeds are averaged, their range is shaded."""
    figure, axes = plt.subplots(figsize=(COLUMN_IN, 2.4))
    for rule, rows in table.groupby("rule", sort=False):
        grouped = rows.groupby("ratio").agg(
            x=(cost, "mean"), y=("psnr", "mean"), low=("psnr", "min"), high=("psnr", "max")
        )
        grouped = grouped.sort_values("x")
        axes.plot(
            grouped["x"], grouped["y"], marker=MARKERS[str(rule)], color=COLOURS[str(rule)], label=str(rule), ms=4
        )
        if rows["seed"].nunique() > 1:
            axes.fill_between(grouped["x"], grouped["low"], grouped["high"], color=COLOURS[str(rule)], alpha=0.2, lw=0)
    dense_x = 1.0 if dense_cost is None else float(table[dense_cost].median())
    axes.plot([dense_x], [table["psnr_dense"].mean()], "k*", ms=8, label="dense")
    axes.axhline(float(table["psnr_bicubic"].mean()), color="0.5", lw=0.8, ls="--", label="bicubic")
    axes.set_xlabel(label)
    axes.set_ylabel("PSNR (dB)")
    axes.legend(frameon=False, fontsize=7)
    return figure


def figures(folders: list[str]) -> dict[str, Callable[[], Figure]]:
    """Name of every figure and how it is drawn."""
    runs = load_runs(folders)
    jobs = job_table(runs)
    return {
        "ratio_heatmap": lambda: draw_ratio_heatmap(ratio_table(runs)),
        "psnr_macs": lambda: draw_quality(jobs, "macs_kept", None, "share of the dense MACs (without flow net)"),
        "psnr_latency": lambda: draw_quality(jobs, "latency_ms", "latency_ms_dense", "measured latency (ms per frame)"),
    }


def main() -> int:
    """Draw every figure of the runs given."""
    parser = argparse.ArgumentParser(description="Figures of a folder of runs")
    parser.add_argument("runs", nargs="+", help="folders below which run.py wrote its jobs")
    parser.add_argument("--out", default="figures", help="where the figures go (default: figures)")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    try:
        drawings = figures(arguments.runs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, draw in drawings.items():
            figure = draw()
            # Without dates and versions the same runs give the same bytes.
            figure.savefig(out / f"{name}.pdf", metadata={"CreationDate": None})
            figure.savefig(out / f"{name}.png", dpi=200, metadata={"Software": None})
            plt.close(figure)
            print(out / f"{name}.pdf")
    return 0


if __name__ == "__main__":
    sys.exit(main())
