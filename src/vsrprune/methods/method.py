"""What a method is: one choice for each stage in which methods differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Method:
    """The interface that all methods fill in, and all that the stages know of a method.

    plan: how the shape of the pruned network is decided. `ranked`: units are scored and the least important cut;
    `narrow`: every layer of a part keeps the same share of its channels, no unit is better than another; `whole`:
    nothing is cut.
    start: what fine-tuning starts from. `cut`: the dense network without the cut units; `scratch`: new weights in the
    plan's shape; `masked`: the dense network with its smallest weights at zero, where they stay.
    penalty: whether the sparsify stage drives to zero the `gates` of the units that will be cut, or their `filters`.
    normalised: whether filters have unit norm while gates are trained, so that a gate alone says what a filter weighs.
    aligned_first: whether a stage before the score trains the gates of layers that share channels to agree.
    requires: by knob, the values with which the method is what its name says; any other value is refused.
    """

    name: str
    plan: Literal["ranked", "narrow", "whole"] = "ranked"
    start: Literal["cut", "scratch", "masked"] = "cut"
    penalty: Literal["gates", "filters"] = "gates"
    normalised: bool = False
    aligned_first: bool = False
    requires: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
