"""Figures of a search of per-layer ratios, from its search.json, as vector PDF and PNG.

    python analysis/search_figures.py SEARCH [--out SEARCH/figures] [--only NAME ...]

history (trials and the best so far), front (PSNR against cost), importance (of each ratio), ratio_heatmap (the winner
beside the plans of the rules).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd

# Before pyplot is imported, so that no display is looked for.
mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis import drawings
from analysis.figures import NothingToDrawError, save_figure
from analysis.heatmap import draw_ratio_heatmap
from analysis.output import folder_for
from analysis.runs import UNREADABLE
from analysis.style import COLOURS, COLUMN_IN, GREY, RC
from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.errors import UserError
from vsrprune.store.sealed import read_sealed

Found = Mapping[str, Any]
SEARCH = "search.json"
MOST_BARS = 24
REFERENCES = {"global": (COLOURS["ssl"], "--", "s"), "uniform": (COLOURS["aligned"], ":", "^")}
COSTS = {
    "macs": "share of the dense MACs (flow net excluded)",
    "latency": "share of the dense time, by timed operations",
}


def trial_table(found: Found) -> pd.DataFrame:
    """A row per trial: number, share of the cost, PSNR at its last rung, whether it reached the last rung in budget."""
    # A trial that was stopped early has its PSNR after fewer steps, which does not compare with the others'.
    last = len(found["rungs"])
    rows = [
        {
            "number": trial["number"],
            "share": trial["share"],
            "psnr": trial["psnr"][-1],
            "finished": len(trial["psnr"]) == last and trial["state"] == "complete",
        }
        for trial in found["trials"]
    ]
    return pd.DataFrame(rows).sort_values("number", ignore_index=True)


def layer_ratios(found: Found) -> pd.DataFrame:
    """Share of units cut: layers (part, kind, name; in network order) x plans."""
    if found["objective"] == "front":
        plans = {f"front {row['share']:.0%}": row["counts"] for row in _spread(found["front"])}
    else:
        plans = {"winner": found["best"]["counts"]}
        plans |= {row["name"]: row["counts"] for row in found["references"]}
    index = pd.MultiIndex.from_tuples([(layer["part"], layer["kind"], layer["name"]) for layer in found["layers"]])
    columns = {
        name: [1 - counts[layer["name"]] / layer["size"] for layer in found["layers"]] for name, counts in plans.items()
    }
    return pd.DataFrame(columns, index=index)


def _spread(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    places = sorted({round(place) for place in np.linspace(0, len(rows) - 1, 6)})
    return [rows[place] for place in places]


def history(found: Found) -> Figure:
    """PSNR of every trial, the best so far, and the plans of the rules as lines."""
    if found["objective"] == "front":
        raise NothingToDrawError("a front has no single best; see the figure front")
    table = trial_table(found)
    figure, axes = plt.subplots(figsize=(COLUMN_IN, 2.4))
    done, stopped = table[table["finished"]], table[~table["finished"]]
    axes.plot(stopped["number"], stopped["psnr"], "o", color="0.7", fillstyle="none", label="stopped early")
    axes.plot(done["number"], done["psnr"], "o", color=COLOURS["inner"], label="trial")
    # Only over trials that reached the last rung: the PSNR of a stopped one is that of an earlier rung.
    axes.step(done["number"], done["psnr"].cummax(), where="post", color=COLOURS["inner"], label="best so far")
    for row in found["references"]:
        colour, line, _ = REFERENCES[row["name"]]
        axes.axhline(row["psnr"][-1], color=colour, linestyle=line, label=f"{row['name']} plan")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel("PSNR on the scoring clips (dB)")
    drawings.legend_below(figure, axes)
    return figure


def front(found: Found) -> Figure:
    """PSNR against cost: all trials, the front, the plans of the rules."""
    if found["objective"] != "front":
        raise NothingToDrawError("the search had one budget; see the figure history")
    table, best = trial_table(found), pd.DataFrame(found["front"])
    figure, axes = plt.subplots(figsize=(COLUMN_IN, 2.5))
    done, stopped = table[table["finished"]], table[~table["finished"]]
    axes.plot(stopped["share"], stopped["psnr"], "o", color="0.7", fillstyle="none", label="stopped early")
    axes.plot(done["share"], done["psnr"], "o", color=GREY, label="trial")
    axes.step(best["share"], [psnr[-1] for psnr in best["psnr"]], where="post", color=COLOURS["inner"], label="front")
    references = pd.DataFrame(found["references"])
    for name, rows in references.groupby("name", sort=False):
        colour, line, mark = REFERENCES[str(name)]
        ordered = rows.sort_values("share")
        psnr = [values[-1] for values in ordered["psnr"]]
        axes.plot(ordered["share"], psnr, color=colour, linestyle=line, marker=mark, label=f"{name} plan")
    axes.set_xlabel(COSTS[found["cost"]])
    axes.set_ylabel("PSNR on the scoring clips (dB)")
    drawings.legend_below(figure, axes)
    return figure


def importance(found: Found) -> Figure:
    """How much each ratio explains of which trials are good."""
    if not found["importance"]:
        raise NothingToDrawError("too few trials, or too few dimensions, to tell which ratios matter")
    values = sorted(found["importance"].items(), key=lambda item: -item[1])[:MOST_BARS]
    figure, axes = plt.subplots(figsize=(COLUMN_IN, 0.6 + 0.15 * len(values)))
    axes.barh(range(len(values))[::-1], [value for _, value in values], color=COLOURS["inner"])
    axes.set_yticks(range(len(values))[::-1], [name for name, _ in values])
    axes.set_xlabel("importance (share explained)")
    return figure


def plan_heatmap(found: Found) -> Figure:
    """Share of units cut per layer: the winner (or points of the front) beside the plans of the rules."""
    return draw_ratio_heatmap(layer_ratios(found))


FIGURES: dict[str, Callable[[Found], Figure]] = {
    "history": history,
    "front": front,
    "importance": importance,
    "ratio_heatmap": plan_heatmap,
}


def read_search(folder: Path) -> Found:
    """search.json of a search's folder. Raises UserError if it cannot be read."""
    path = folder / SEARCH
    try:
        found: Found = read_sealed(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no finished search can be read there ({error})") from error
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw every figure of the search given."""
    parser = CommandParser(description="Figures of a search of per-layer ratios, as PDF and PNG")
    parser.add_argument("search", type=Path, help="folder that search_ratios.py wrote")
    parser.add_argument("--out", type=Path, help="where the figures go (default: figures in the search's folder)")
    parser.add_argument(
        "--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="NAME", help=", ".join(FIGURES)
    )
    given = parser.parse_args(arguments)
    with explained():
        found, out = read_search(given.search), folder_for(given.out or given.search / "figures")
        out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        for name in given.only:
            try:
                save_figure(FIGURES[name](found), out / name)
            except NothingToDrawError as error:
                print(f"{name} is left out: {error}")
            except UNREADABLE as error:
                print(f"{name} is left out: {given.search / SEARCH} lacks what it shows ({error!r})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
