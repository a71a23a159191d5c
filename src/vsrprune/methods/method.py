"""What a method is: one choice for each stage in which methods differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Method:
    """The interface that all methods fill in, and all that the stages know of a method beside its knobs.

    Methods that rank and cut units differ in knobs alone: rule, scope, score, what is penalised, alignment. Their files
    in conf/method are presets of these, and any combination runs.

    plan: how the shape of the pruned network is decided. `ranked`: units are scored and the least important cut;
    `narrow`: every layer of a part keeps the same share of its channels, no unit is better than another; `masked`:
    all units stay, and the smallest weights become zeros; `whole`: nothing is cut, whatever is asked.
    start: what fine-tuning starts from. `cut`: the dense network without the cut units; `scratch`: new weights in the
    plan's shape; `masked`: the dense network with its smallest weights at zero, where they stay.
    requires: by knob, the values for which the method is defined; any other value is refused.
    """

    name: str
    plan: Literal["ranked", "narrow", "masked", "whole"] = "ranked"
    start: Literal["cut", "scratch", "masked"] = "cut"
    requires: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
