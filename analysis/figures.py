"""Every figure of a folder of runs, as vector PDF and PNG.

    python analysis/figures.py RUNS [RUNS ...] [--out figures] [--only NAME ...] [--run JOB] [--group GROUP]

Runs are compared on the same clips and with replicates of one dense network alone: figures of quality have a panel for
each such group, others show one. Each figure is a table and a drawing. The same runs give the same bytes; what a run
lacks leaves it out of the figures that need it, with the reason.
"""

from __future__ import annotations

import math
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image

# No window: figures are written to files, also on machines without a display.
mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package of this file, wherever the command is called

from analysis import drawings, quality
from analysis.comparisons import (
    difference_table,
    equal_macs_table,
    pareto_front,
    published_table,
    replicate_table,
    series_gaps,
)
from analysis.cuts import cut_words, cuts
from analysis.groups import GROUPS_SHOWN, HELP, OPTION, Group, chosen_groups, group_of, grouped, listed
from analysis.heatmap import draw_ratio_heatmap
from analysis.naming import told_apart, truth_caveats, untold
from analysis.output import folder_for
from analysis.over_time import cut_table, frame_table, hidden_table
from analysis.pictures import read_places
from analysis.runs import (
    CUT_BY,
    LEADERS,
    Run,
    Runs,
    gate_table,
    load_runs,
    ratio_table,
    score_table,
    time_caveats,
)
from analysis.series import Facet, facets, left_out_note, left_out_series, renamed
from analysis.style import RC
from vsrprune.cli import explained
from vsrprune.commands import CommandParser
from vsrprune.errors import UserError
from vsrprune.results.settings import SEEDS

SETTINGS_SHOWN = 40  # in the figure of shares by layer: names of more would lie over each other
SERIES_OF_ERRORS = 4  # in the figure of errors by cut, each of which has three lines
CROP_SETTINGS = 4  # pruned networks beside each other in the figure of crops


class NothingToDrawError(Exception):
    """The runs lack what a figure shows; the text says what."""


def ratio_heatmap(runs: Runs, run: Run) -> Figure:
    """Share of units cut, layers x settings."""
    table = ratio_table(runs)
    if len(table.columns) <= SETTINGS_SHOWN:
        return draw_ratio_heatmap(table)
    every = cuts(runs.finished)
    cut = every[len(every) // 2]
    # Only the runs of one cut, but with the names that all have here.
    shown = ratio_table(Runs([run for run in runs.finished if cut_words(run) == cut], []))
    shown = shown.iloc[:, :SETTINGS_SHOWN]
    left_out = f"of {len(table.columns)} settings {len(shown.columns)} are drawn, at {cut}"
    return draw_ratio_heatmap(shown, [left_out])


def psnr_macs(runs: Runs, run: Run) -> Figure:
    """PSNR against the share of MACs kept, a panel per group; means at equal MACs in the legend."""
    groups = grouped(runs)[:GROUPS_SHOWN]
    panels, notes = _panels(groups, "macs_kept")
    gaps: dict[str, str] = {}
    if len(panels) == 1 and (found := series_gaps(groups[0].runs)):
        gaps = {name: f" ({gap.text} dB)" for name, gap in found.items() if gap is not None}
        first = panels[0].table["series"].iloc[0]
        notes += [f"in brackets: the mean above {first} over the MACs that both have"] if gaps else []
    return quality.draw_quality(panels, "macs_kept", "share of the dense MACs (flow net excluded)", notes, gaps)


def psnr_latency(runs: Runs, run: Run) -> Figure:
    """PSNR against the share of the dense network's time, a panel per group."""
    groups = grouped(runs)[:GROUPS_SHOWN]
    for group in groups:
        _check_machines(group)
    heights_widths = {item.measured.frame_size for group in groups for item in group.runs.finished}
    sizes = " or ".join(f"{width}x{height}" for height, width in sorted(heights_widths))
    panels, notes = _panels(groups, "time_kept")
    notes += [f"{group.name}: {note}" if len(groups) > 1 else note for group in groups for note in group.timing_notes]
    label = f"share of the dense time\n({sizes} frames, flow net included)"
    return quality.draw_quality(panels, "time_kept", label, notes)


def _check_machines(group: Group) -> None:
    """Raise NothingToDrawError where even shares of the dense network's time do not compare."""
    measured = [run.measured for run in group.runs.finished]
    machines = {f"{item.processor}, {item.device}, {item.precision} bits, {item.frame_size}" for item in measured}
    if len(machines) > 1:
        raise NothingToDrawError(
            f"latencies of different machines, precisions or frame sizes do not compare: {'; '.join(sorted(machines))}"
        )


def _panels(groups: Sequence[Group], cost: str) -> tuple[list[quality.Panel], list[str]]:
    """A panel for each group, or several for a single one that has many series; and what they leave out."""
    parts = [(group, facet) for group in groups for facet in (facets(group.runs) if len(groups) == 1 else [])]
    parts = parts or [(group, Facet(group.name, group.runs)) for group in groups]
    left_out = left_out_series([group.runs for group in groups]) if len(parts) == len(groups) else []
    panels, notes = [], [note] if (note := left_out_note(left_out)) else []
    notes += [caveat for group in groups for caveat in truth_caveats(group.runs)]
    # What comes with a method is said once, and not in every name of a series.
    notes += [told for group in groups if (told := told_apart(group.runs))]
    tables = {group.number: replicate_table(group.runs) for group in groups}
    for group, facet in parts:
        rows = renamed(tables[group.number], group.runs, facet)
        table, published = rows[~rows["series"].isin(left_out)], published_table(group.runs)
        drawn = published.dropna(subset="macs_kept")
        # Without a truth the dense network is what the others are compared with, and no point among them.
        to_truth = all(run.result.sees_truth for run in group.runs.finished)
        dense_psnr = group.dense_psnr if to_truth else math.nan
        panels.append(quality.Panel(table, pareto_front(table, cost), drawn, dense_psnr, facet.title))
        if cost == "macs_kept" and len(drawn) < len(published):
            rest = ", ".join(published["method"][published["macs_kept"].isna()])
            notes.append(f"published without their MACs, in tables alone: {rest}")
    return panels, list(dict.fromkeys(notes))


def differences(runs: Runs, run: Run) -> Figure:
    """Paired differences of every knob that varies, at equal MACs."""
    return _draw_differences(runs, equal_macs_table(runs))


def differences_by_cut(runs: Runs, run: Run) -> Figure:
    """The same at every share of the network that is cut, whatever MACs that leaves."""
    return _draw_differences(runs, difference_table(runs))


def _draw_differences(runs: Runs, table: pd.DataFrame) -> Figure:
    if table.empty:
        raise NothingToDrawError(
            "no knob but the ratio varies among jobs that are alike otherwise, with a replicate in common"
        )
    knobs = set(table["knob"])
    notes = [*truth_caveats(runs), *(time_caveats(runs) if "tf_weight" in knobs else [])]
    told = told_apart(runs) if knobs & set(LEADERS) else ""
    return drawings.draw_differences(table, [*notes, *([told] if told else [])])


def error_over_frames(runs: Runs, run: Run) -> Figure:
    """Error of the hidden states and lost PSNR against the frame index, with and without temporal fine-tuning."""
    notes = [note for note in (*truth_caveats(runs), *time_caveats(runs), told_apart(runs)) if note]
    return drawings.draw_error_over_frames(hidden_table(runs), frame_table(runs), notes)


def error_by_cut(runs: Runs, run: Run) -> Figure:
    """Error of the hidden states, made in a step and handed on, against the share of the MACs that is cut."""
    left_out = left_out_series([runs], SERIES_OF_ERRORS)
    table = cut_table(runs)
    table = table[~table["series"].isin(left_out)]
    if table["cut"].nunique() < 2:
        raise NothingToDrawError("no two jobs with hidden states to compare cut different shares of the MACs")
    notes = [note for note in (*time_caveats(runs), told_apart(runs), left_out_note(left_out)) if note]
    return drawings.draw_error_by_cut(table, notes)


def score_distributions(runs: Runs, run: Run) -> Figure:
    """Scores of kept and cut units of one job."""
    table = score_table(run)
    if table.empty:
        raise NothingToDrawError(f"method={run.knobs['method']} of {run.name} ranks no units, so that it has no scores")
    return drawings.draw_score_distributions(table, run.name)


def gate_trajectories(runs: Runs, run: Run) -> Figure:
    """Gates of one job while the penalty grows."""
    table = gate_table(run)
    if table.empty:
        raise NothingToDrawError(f"{run.name} has no sparsify stage, or logged none of its steps")
    return drawings.draw_gate_trajectories(table, run.name)


def qualitative(runs: Runs, run: Run) -> Figure:
    """Crops of `run` and of the jobs that share its dense network, ratio and seeds; damaged ones are left out.

    Their PSNR is to the truth or, without one, to the dense network's picture, which then stands last.
    """
    places = read_places(run.folder, run.result.sees_truth)
    if not places:
        raise NothingToDrawError(f"{run.name} has no crops (evaluate.crops=0?)")
    short = untold(runs)  # long names would leave the pictures no room
    settings = {runs.label(item, short): item for item in _shown_beside(runs, run) if not _crop_fault(item)}
    spread = np.linspace(0, len(settings) - 1, min(CROP_SETTINGS, len(settings))).round().astype(int)
    # The job that was asked for stands first; others are spread over what there is.
    chosen = {runs.label(run, short): run} | {list(settings)[at]: list(settings.values())[at] for at in spread[1:]}
    frames, rows, psnr = [], [], []
    for place in places:
        crops = _crops(run.folder, place["clip"], chosen)
        *_, last = crops  # the truth, or what stands in for it
        truth = _pixels(crops[last])
        frames.append((run.folder / "crops" / f"{place['clip']}_frame.png", (place["x"], place["y"], place["side"])))
        rows.append(crops)
        psnr.append({name: _psnr(_pixels(path), truth) for name, path in crops.items() if name not in ("LR", last)})
    return drawings.draw_qualitative(frames, rows, psnr)


def _shown_beside(runs: Runs, run: Run) -> list[Run]:
    def shared(item: Run) -> tuple[object, ...]:
        return (item.result.stages["reference"], *(item.knobs.get(knob) for knob in (*CUT_BY, *SEEDS)))

    return [item for item in (run, *runs.finished) if shared(item) == shared(run)]


def damaged_crops(runs: Runs, run: Run) -> dict[str, str]:
    """Jobs that the figure of crops leaves out although it would show them, and why."""
    faults = {item.name: _crop_fault(item) for item in _shown_beside(runs, run) if item is not run}
    return {name: fault for name, fault in faults.items() if fault}


def _crop_fault(run: Run) -> str:
    """Why a job's crops cannot be shown; empty if they can, or if it has none."""
    try:
        read_places(run.folder, run.result.sees_truth)
    except UserError as error:
        return str(error)
    return ""


def _crops(folder: Path, clip: str, settings: Mapping[str, Run]) -> dict[str, Path]:
    crops = {
        "LR": folder / "crops" / f"{clip}_lr.png",
        "bicubic": folder / "crops" / f"{clip}_bicubic.png",
        "input": folder / "crops" / f"{clip}_input.png",
        "dense": folder / "crops" / f"{clip}_dense.png",
        **{label.replace(", ", "\n"): run.folder / "crops" / f"{clip}_pruned.png" for label, run in settings.items()},
        "ground truth": folder / "crops" / f"{clip}_truth.png",
    }
    if not crops["ground truth"].is_file():
        crops["dense (no truth)"] = crops.pop("dense")
    return {name: path for name, path in crops.items() if path.is_file()}


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=float)


def _psnr(image_HWC: np.ndarray, truth_HWC: np.ndarray) -> float:
    """On RGB, in dB."""
    # Equal pictures would divide by zero.
    return float(10 * np.log10(255**2 / max(1e-9, float(np.mean((image_HWC - truth_HWC) ** 2)))))


FIGURES: dict[str, Callable[[Runs, Run], Figure]] = {
    "ratio_heatmap": ratio_heatmap,
    "psnr_macs": psnr_macs,
    "psnr_latency": psnr_latency,
    "differences": differences,
    "differences_by_cut": differences_by_cut,
    "error_over_frames": error_over_frames,
    "error_by_cut": error_by_cut,
    "score_distributions": score_distributions,
    "gate_trajectories": gate_trajectories,
    "qualitative": qualitative,
}
PANELS = ("psnr_macs", "psnr_latency")  # one for each group of runs that can be compared
COMPARING = (
    "ratio_heatmap",
    "differences",
    "differences_by_cut",
    "error_over_frames",
    "error_by_cut",
)  # the runs of one group


def write_figures(runs: Runs, run: Run, names: Sequence[str], out: Path) -> dict[str, str]:
    """Draw the figures of these names; the reasons of those that could not be drawn.

    Those that compare runs show one group: that of `run`. Those of PANELS have a panel for each.
    """
    reasons: dict[str, str] = {}
    groups = grouped(runs)
    group = group_of(groups, run)
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        for name in names:
            try:
                figure = FIGURES[name](runs if name in PANELS else group.runs, run)
            except (NothingToDrawError, UserError) as error:
                reasons[name] = str(error)
                continue
            if len(groups) > 1 and name in COMPARING:
                _name_group(figure, group)
            save_figure(figure, out / name)
    return reasons


def _name_group(figure: Figure, group: Group) -> None:
    """The name of its group above a figure, over the notes that stand there."""
    notes = figure.get_suptitle()
    name = textwrap.fill(group.name, drawings.NOTE_COLUMN)
    figure.suptitle(f"{name}\n{notes}" if notes else name, fontsize=5.5 if notes else 7)


def groups_not_drawn(runs: Runs, run: Run, names: Sequence[str]) -> list[str]:
    """What figures leave out of runs that are not all comparable, and how it is drawn."""
    groups = grouped(runs)
    if len(groups) == 1:
        return []
    shown, rest, said = group_of(groups, run), groups[GROUPS_SHOWN:], []
    if others := [name for name in names if name in COMPARING]:
        left = [group for group in groups if group is not shown]
        said.append(f"{', '.join(others)}: of group {shown.title} alone; {OPTION} draws {listed(left)}")
    if rest and (drawn := [name for name in names if name in PANELS]):
        said.append(f"{', '.join(drawn)}: of the first {GROUPS_SHOWN} groups; {OPTION} draws {listed(rest)}")
    return said


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PDF and PNG; without dates and versions the same runs give the same bytes."""
    with warnings.catch_warnings():
        # A name may hold letters that the font lacks: one line of ours says so instead of one for each letter.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})
        figure.savefig(path.with_suffix(".png"), dpi=300, metadata={"Software": None})
    lacking = sorted({letter for text in figure.findobj(Text) for letter in text.get_text() if _is_lacking(letter)})
    if lacking:
        print(f"{path.name}: boxes stand for letters that the font lacks: {' '.join(lacking)}", file=sys.stderr)
    plt.close(figure)
    print(path.with_suffix(".pdf"))


def _is_lacking(letter: str) -> bool:
    family = str(RC["font.family"])
    return letter.isprintable() and ord(letter) not in get_font(findfont(family)).get_charmap()


def chosen_run(runs: Runs, name: str) -> Run:
    """The job that the figures of one job show: the one of that name, or the most pruned with a sparsify stage."""
    if not name:
        sparsified = [run for run in runs.finished if "sparsify" in run.result.stages]
        return min(sparsified or runs.finished, key=lambda run: run.result.cost["pruned"].macs)
    found = [run for run in runs.finished if run.name == name]
    if not found:
        raise UserError(f"--run must name a job: {', '.join(run.name for run in runs.finished)}; got {name!r}")
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw every figure of the runs given."""
    parser = CommandParser(description="Figures of a folder of runs, as PDF and PNG")
    parser.add_argument("runs", nargs="+", help="folders below which run.py wrote its jobs")
    parser.add_argument("--out", default="figures", help="where the figures go (default: figures)")
    parser.add_argument(
        "--only", nargs="+", choices=FIGURES, default=list(FIGURES), metavar="NAME", help=", ".join(FIGURES)
    )
    parser.add_argument("--run", default="", help="the job that scores, gates and crops are drawn of")
    parser.add_argument(OPTION, default="", metavar="GROUP", help=HELP)
    given = parser.parse_args(arguments)
    with explained():
        out = folder_for(given.out)
        runs = load_runs(given.runs)
        left_out = runs.left_out
        if given.group:
            (group,) = chosen_groups(grouped(runs), given.group)
            runs = group.runs
        run = chosen_run(runs, given.run)
        for line in groups_not_drawn(runs, run, given.only):
            print(line, file=sys.stderr)
        for name, reason in write_figures(runs, run, given.only, out).items():
            print(f"not drawn: {name}: {reason}", file=sys.stderr)
        for name, reason in (damaged_crops(runs, run) if "qualitative" in given.only else {}).items():
            print(f"left out of the crops: {name}: {reason}", file=sys.stderr)
        for item in left_out:
            print(f"left out: {item.name}: {item.reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
