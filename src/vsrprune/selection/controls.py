"""A control of rankings: as many units of every layer as the ranking keeps, and chance says which."""

from __future__ import annotations

import numpy as np

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan

UNITS = ("ranked", "random")


def random_units(layout: ChannelLayout, plan: PrunePlan, seed: int) -> PrunePlan:
    """A plan of the same counts; which units are cut is drawn by `seed`.

    Every layer has one order of its units, whose first go: what one plan cuts, a plan that keeps fewer cuts too, so
    that the rounds of a job take nothing back.
    """
    rng = np.random.default_rng(seed)
    orders = {group.name: rng.permutation(group.size) for group in layout.groups}
    return PrunePlan.cutting(
        plan.rule, layout, {name: order[: len(plan.cut(name))].tolist() for name, order in orders.items()}
    )
