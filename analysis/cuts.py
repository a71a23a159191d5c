"""How much of the network jobs cut, in words: the columns of tables."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.runs import Run
from vsrprune.methods.table import METHODS


def cut_words(run: Run) -> str:
    """How much of the network a job is asked to cut, or the milliseconds that it is to take."""
    if run.knobs.get("target_ms"):
        return f"within {run.knobs['target_ms']:g} ms"
    target = {"macs": "MACs"}.get(run.knobs["target"], run.knobs["target"])
    return f"{100 * run.knobs['ratio']:g} % of the {target} cut"


def cut_order(run: Run) -> tuple[str, float, float]:
    """Sorts runs target by target: the least cut, or the slowest, first."""
    return run.knobs["target"], -run.knobs.get("target_ms", 0), run.knobs["ratio"]


def cuts(runs: Sequence[Run]) -> list[str]:
    """The `cut_words` of some runs, in the order of `cut_order`.

    Not those of a control that cuts nothing whatever it is asked, unless there are no others.
    """
    cutting = [run for run in runs if not _cuts_nothing(run)]
    return list(dict.fromkeys(map(cut_words, sorted(cutting or runs, key=cut_order))))


def columns_of(run: Run, columns: Sequence[str]) -> Sequence[str]:
    """The columns in which a run stands: its own, and all of them for a control that cuts nothing."""
    return columns if _cuts_nothing(run) else [cut_words(run)]


def _cuts_nothing(run: Run) -> bool:
    method = METHODS.get(run.knobs["method"])
    return method is not None and method.plan == "whole"
