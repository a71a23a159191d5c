"""Scores of different layers brought to one scale, and counted per what cutting a unit frees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vsrprune.channels.layout import ChannelGroup, ChannelLayout
from vsrprune.selection.asked import amount
from vsrprune.selection.scores import Scores


class Ranking(NamedTuple):
    """How scores become a ranking; see `Asked`."""

    order: str = "min"
    normalise: str = "none"
    rank: str = "score"


def ranked(layout: ChannelLayout, scores: Scores, how: Ranking) -> Scores:
    """What one ranking over layers compares: normalised scores, per MAC or parameter that a unit frees.

    The order within a layer stays. Units that free nothing (a squeeze of one mean per channel has no MACs) come last,
    whatever the order.
    """
    values = NORMALISERS[how.normalise](layout, scores)
    return values if how.rank == "score" else _per_cost(layout, values, COSTS[how.rank], how.order)


def _unchanged(layout: ChannelLayout, scores: Scores) -> Scores:
    return scores


def _over_means(key: Callable[[ChannelGroup], str]) -> Callable[[ChannelLayout, Scores], Scores]:
    """Scores over the mean of all units whose groups have the same key."""

    def normalise(layout: ChannelLayout, scores: Scores) -> Scores:
        members: dict[str, list[NDArray[np.float64]]] = {}
        for group in layout.groups:
            members.setdefault(key(group), []).append(scores[group.name])
        means = {name: float(np.concatenate(values).mean()) for name, values in members.items()}
        # Where all scores are 0 they stay 0.
        return {group.name: scores[group.name] / (means[key(group)] or 1.0) for group in layout.groups}

    return normalise


def lamp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value over the sum of those of its layer that are not smaller, itself included (Lee et al., ICLR 2021).

    The largest of a layer becomes 1. Among equal values the first goes first, and is divided by the others too.
    """
    order = np.argsort(values, kind="stable")
    not_smaller = np.cumsum(values[order][::-1])[::-1]
    shares = np.zeros_like(values)
    shares[order] = np.divide(values[order], not_smaller, out=np.zeros_like(values), where=not_smaller > 0)
    return shares


def _over_larger(layout: ChannelLayout, scores: Scores) -> Scores:
    return {name: lamp(values) for name, values in scores.items()}


NORMALISERS: Mapping[str, Callable[[ChannelLayout, Scores], Scores]] = {
    "none": _unchanged,
    "layer": _over_means(lambda group: group.name),
    "kind": _over_means(lambda group: group.kind),
    "lamp": _over_larger,
}
COSTS: Mapping[str, str] = {"per_mac": "macs", "per_param": "params"}  # what a rank counts, as a target names it


def freed(layout: ChannelLayout, target: str) -> dict[str, float]:
    """By group, the MACs per pixel or the parameters that the first cut unit frees: all neighbours are whole.

    A product of two counts, of which cuts elsewhere change one; to count again after every cut gains nothing.
    """
    dense = amount(layout, {}, target)
    return {group.name: dense - amount(layout, {group.name: group.size - 1}, target) for group in layout.groups}


def _per_cost(layout: ChannelLayout, scores: Scores, target: str, order: str) -> Scores:
    costs = freed(layout, target)
    found = {name: values / costs[name] for name, values in scores.items() if costs[name] > 0}
    # Finite places beyond all others, so that these units keep the order of their scores among themselves.
    last = max((float(values.max()) for values in found.values()), default=0.0) + 1.0
    highest = max((float(scores[name].max()) for name in scores if name not in found), default=0.0) + 1.0
    beyond = last if order == "min" else -highest
    return {name: found[name] if name in found else values + beyond for name, values in scores.items()}
