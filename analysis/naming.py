"""Short names of settings: what comes with a method or a network is told once; and what PSNR is to, without a truth."""

from __future__ import annotations

from analysis.runs import CUT_BY, LEADERS, Runs
from vsrprune.results.result import truth_caveats_of

LONG_NAME = 40  # letters of a name that says all


def untold(runs: Runs) -> tuple[str, ...]:
    """The knobs that names leave out and `told_apart` tells: those along with the method, where names would be long."""
    longest = max(len(runs.label(run, without=CUT_BY)) for run in runs.finished)
    return tuple(runs.following) if longest > LONG_NAME else ()


def told_apart(runs: Runs) -> str:
    """A sentence of what names leave out, such as `l1, random: aligned, tf_weight=0`; empty if nothing."""
    left_out = untold(runs)
    if not left_out:
        return ""
    leaders: dict[str, dict[str, None]] = {}
    for run in runs.finished:
        leader, rest = (
            runs.label(run, without=[knob for knob in runs.varying if knob not in named])
            for named in (LEADERS, left_out)
        )
        leaders.setdefault(rest, {})[leader] = None
    told = [f"{', '.join(of)}: {rest}" for rest, of in leaders.items()]
    return f"names leave out what comes with them: {'; '.join(told)}"


def truth_caveats(runs: Runs) -> list[str]:
    """What must be said beside the quality of runs that saw no truth: what their PSNR is to."""
    return truth_caveats_of([run.result for run in runs.finished])
