"""Short names of settings: what comes with a method or a network is told once, and not in every name."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.runs import CUT_BY, LEADERS, Run, Runs

LONG_NAME = 40  # letters of a name that says all


def untold(runs: Runs) -> tuple[str, ...]:
    """The knobs that names leave out and `told_apart` tells: those along with the method, where names would be long."""
    longest = max(len(runs.label(run, without=CUT_BY)) for run in runs.finished)
    return tuple(runs.following) if longest > LONG_NAME else ()


def told_apart(runs: Runs) -> str:
    """A sentence of what names leave out, such as `l1: aligned, tf_weight=0` of each method; empty if nothing."""
    left_out = untold(runs)
    if not left_out:
        return ""
    told = dict.fromkeys(_told(runs, run, left_out) for run in runs.finished)
    return f"names leave out what comes with them: {'; '.join(told)}"


def _told(runs: Runs, run: Run, left_out: Sequence[str]) -> str:
    leader = runs.label(run, without=[knob for knob in runs.varying if knob not in LEADERS])
    rest = runs.label(run, without=[knob for knob in runs.varying if knob not in left_out])
    return f"{leader}: {rest}"
