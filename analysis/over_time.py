"""What pruning costs over time, as tidy tables: by frame, and by how much is cut."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.cuts import cut_order, cut_words
from analysis.naming import untold
from analysis.runs import CUT_BY, Run, Runs
from vsrprune.results.replicates import dense_network

PARTS_OF_ERROR = ("made_here", "propagated")


def frame_table(runs: Runs) -> pd.DataFrame:
    """A row per job and frame index: PSNR of the dense network minus that of the pruned one (psnr_gap, dB).

    It is a mean over the clips that reach the frame, whose number is `clips`. The jobs are those of `hidden_table`.
    """
    rows = []
    for run, series in _compared_in_time(runs):
        dense, pruned = (run.result.quality[name].frames for name in ("dense", "finetuned"))
        for frame in range(max(map(len, pruned.values()))):
            gaps = [dense[clip][frame] - psnr[frame] for clip, psnr in pruned.items() if frame < len(psnr)]
            row = {"job": run.name, "network": dense_network(run), "series": series, "frame": frame}
            rows.append({**row, "psnr_gap": sum(gaps) / len(gaps), "clips": len(gaps)})
    return pd.DataFrame(rows)


def hidden_table(runs: Runs) -> pd.DataFrame:
    """A row per job, point (after_cut, finetuned), branch and frame index: errors of hidden states, see HiddenError.

    Where a pruned network was fine-tuned with several tf_weights, only such jobs: others would differ in more. Then
    `series` is that weight, otherwise how much is cut, and the setting where several are compared: no series is of two
    settings. `network` tells replicates apart. Jobs that share their cut have one row after it. Jobs from scratch,
    whose hidden states compare with no others, are left out unless all are.
    """
    rows = [{"series": series, **row} for run, series in _compared_in_time(runs) for row in _error_rows(run)]
    columns = ["series", "job", "network", "prune", "point", "branch", "frame", "total", *PARTS_OF_ERROR]
    table = pd.DataFrame(rows, columns=columns)
    seen_before = table.duplicated(["prune", "branch", "frame", "point"])
    return table[~(seen_before & (table["point"] == "after_cut"))].reset_index(drop=True)


def cut_table(runs: Runs) -> pd.DataFrame:
    """A row per series, wish of what to cut, and point: errors of the hidden states, means over frames and branches.

    cut: the share of the MACs that is cut. It too is a mean over replicates, whose plans differ.
    """
    without = [*CUT_BY, *untold(runs)]
    rows = [
        {"series": runs.label(run, without=without), "wish": cut_words(run), "cut": 1 - run.result.macs_kept, **row}
        for run in runs.finished
        for row in _error_rows(run)
    ]
    if not rows:
        return pd.DataFrame(columns=["series", "cut", "point", "total", *PARTS_OF_ERROR])
    means = pd.DataFrame(rows).groupby(["series", "wish", "point"], sort=False, as_index=False)
    return means[["cut", "total", *PARTS_OF_ERROR]].mean().drop(columns="wish")


def _error_rows(run: Run) -> list[dict[str, object]]:
    return [
        {
            "job": run.name,
            "network": dense_network(run),
            "prune": run.result.stages.get("prune"),
            "point": point,
            "branch": branch,
            "frame": frame,
            "total": total,
            **{part: None if (values := getattr(error, part)) is None else values[frame] for part in PARTS_OF_ERROR},
        }
        for point, branches in run.result.hidden_error.items()
        for branch, error in branches.items()
        for frame, total in enumerate(error.total)
    ]


def _compared_in_time(runs: Runs) -> list[tuple[Run, str]]:
    """The jobs that figures over frames show, and what tells them apart there."""
    comparable = [run for run in runs.finished if run.result.hidden_error] or runs.finished
    pairs = _temporal_pairs(comparable)
    if pairs:
        return [(run, _weight_words(run) + f", {_rest(runs, run)}" * (len({_rest(runs, of) for of in pairs}) > 1))
                for run in sorted(pairs, key=cut_order)]  # fmt: skip
    by_cut = sorted(comparable, key=cut_order)
    without = [*CUT_BY, *untold(runs)]
    settings = {run.name: runs.label(run, without=without) for run in by_cut}
    # Series are means: settings that differ in more than the cut must not be one.
    named = len(set(settings.values())) > 1
    return [(run, cut_words(run) + f", {settings[run.name]}" * named) for run in by_cut]


def _weight_words(run: Run) -> str:
    weight = run.knobs["tf_weight"]
    return f"tf_weight={weight:g}" if weight else "without temporal fine-tuning"


def _rest(runs: Runs, run: Run) -> str:
    """What tells the pruned network of a pair from those of other pairs."""
    return runs.label(run, without=["tf_weight"])


def _temporal_pairs(finished: Sequence[Run]) -> list[Run]:
    """The jobs whose pruned network another job fine-tuned with another tf_weight."""
    weights: dict[str | None, set[object]] = {}
    for run in finished:
        weights.setdefault(run.result.stages.get("prune"), set()).add(run.knobs["tf_weight"])
    return [run for run in finished if len(weights[run.result.stages.get("prune")]) > 1]
