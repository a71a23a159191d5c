"""What is said of two runs: how far they share their work, and whether their difference is beyond noise.

The report fills in the same sentences in a browser, for any two runs, as `verdict` does here.
"""

from __future__ import annotations

from collections.abc import Mapping

from vsrprune.results.intervals import Interval

WORDS = {
    "same": "A and B are the same run.",
    "counts": "{values}; {shared} of {stages} are shared{parting}.",
    "parting": ", and the two part at {stage}",
    "seeds": "They differ by their replicate or seeds alone: the difference of their results is the noise of training.",
    "unpaired": "Their settings have fewer than two dense networks in common, so nothing tells this difference from"
    " noise.",
    "incomparable": "Their clips, protocol, task or dense network differ in more than seeds, so that their results are"
    " not compared.",
    "paired": "PSNR of B's setting minus A's, over {networks} dense networks: {difference} ± {half} dB (95 % interval):"
    " {verdict}. That is of this pair alone: of twenty pairs without any difference, one looks like one.",
    "better": "B is better",
    "worse": "B is worse",
    "within noise": "within noise",
    "value": "1 configuration value differs",
    "values": "{number} configuration values differ",
    "stage": "stage",
}


def count(number: int, noun: str) -> str:
    """Such as `2 stages`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def stages_line(values: int, first: Mapping[str, str], second: Mapping[str, str]) -> str:
    """How many values of the configuration differ, and how many stages, whose keys are given, are shared."""
    parting = next((stage for stage, key in first.items() if second.get(stage) != key), "")
    shared = sum(second.get(stage) == key for stage, key in first.items())
    return WORDS["counts"].format(
        values=WORDS["value" if values == 1 else "values"].format(number=values),
        shared=shared,
        stages=count(len(first), WORDS["stage"]),
        parting=WORDS["parting"].format(stage=parting) if parting else "",
    )


def setting_line(same_setting: bool, difference: Interval | None) -> str:
    """Whether the second run's setting is better. difference: see `setting_difference`."""
    if same_setting:
        return WORDS["seeds"]
    if difference is None or difference.count < 2:
        return WORDS["unpaired"]
    return WORDS["paired"].format(
        networks=difference.count,
        difference=f"{difference.mean:+.3f}",
        half=f"{difference.half_width:.3f}",
        verdict=WORDS[difference.verdict],
    )
