"""How much a selection was to keep, and how much it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.selection.asked import TOLERANCE, amount, dense_amount, half_up

REALTIME = "realtime"  # the target that wants at most so many milliseconds, and not just so many


@dataclass(frozen=True)
class Budget:
    """How much the dense network has, how much was wanted, and how much the plan keeps.

    All are units, MACs per low-resolution pixel, parameters, or milliseconds per frame, as `target` says.
    """

    target: str
    dense: float
    wanted: float
    reached: float

    @property
    def deviation(self) -> float:
        """Relative miss, (reached - wanted) / wanted."""
        return (self.reached - self.wanted) / self.wanted

    def check(self, round_to: int | str) -> None:
        """Raise UserError if rounding stands in the way of what was asked for; says what is reachable."""
        if abs(self.deviation) > TOLERANCE:
            raise UserError(
                f"round_to={round_to} cannot keep {self.wanted / self.dense:.1%} of the {self.target}; the nearest plan"
                f" keeps {self.reached / self.dense:.1%}: use ratio={1 - self.reached / self.dense:.3f}, or round_to=1"
            )

    def to_json(self) -> dict[str, float | str]:
        """Plain values for a JSON file."""
        return {
            "target": self.target,
            "dense": self.dense,
            "wanted": self.wanted,
            "reached": self.reached,
            "deviation": self.deviation,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Budget:
        """The budget that `to_json` took apart."""
        return cls(values["target"], values["dense"], values["wanted"], values["reached"])


def budget(layout: ChannelLayout, plan: PrunePlan, ratio: float, target: str) -> Budget:
    """Compare what `plan` keeps with what `ratio` asked for."""
    # Units are whole, so what is wanted is rounded as `select` rounds it; MACs and parameters are not.
    dense, reached = dense_amount(layout, target), amount(layout, plan.kept_counts, target)
    wanted = dense - half_up(dense * ratio) if target == "units" else dense * (1 - ratio)
    return Budget(target, dense, wanted, reached)
