"""The widths of a network that is narrower than the dense one and costs what a pruned one may."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.selection.asked import TOLERANCE, Asked, amount, dense_amount

UPSAMPLER = "upsampler"


def narrow_plan(layout: ChannelLayout, asked: Asked) -> PrunePlan:
    """Keep the first channels of every layer: one share of them in the trunk, another in the upsampler, if any.

    asked.ratio is the share of the dense MACs or parameters that is removed (target=macs, params). Of the pairs of
    widths that lie within 2 % of the budget, the pair is taken whose shares are nearest to each other; where there is
    none, the pair nearest to the budget. Under a rule that prunes the whole stream (aligned) this is the architecture
    itself with fewer channels. Raises UserError if min_kept is more than a layer has.
    """
    target, min_kept = asked.target, asked.min_kept
    wanted = dense_amount(layout, target) * (1 - asked.ratio)
    # Two widths and not one: if all layers of 64 channels lose one, 3 % of the MACs go, too coarse for 2 %. And not one
    # per layer: "the same architecture, narrower" has no such choice.
    trunk = _shares(layout, [part for part in layout.parts if part != UPSAMPLER], min_kept)
    pairs = [(share, share) for share in trunk]
    if UPSAMPLER in layout.parts:
        pairs = list(product(trunk, _shares(layout, [UPSAMPLER], min_kept)))
    misses = {pair: abs(amount(layout, _counts(layout, *pair, min_kept), target) / wanted - 1) for pair in pairs}
    within = [pair for pair in pairs if misses[pair] <= TOLERANCE]
    if within:
        best = min(within, key=lambda pair: (abs(pair[0] - pair[1]), misses[pair]))
    else:
        best = min(pairs, key=misses.__getitem__)
    counts = _counts(layout, *best, min_kept)
    return PrunePlan.cutting(
        asked.rule, layout, {group.name: range(counts[group.name], group.size) for group in layout.groups}
    )


def _shares(layout: ChannelLayout, parts: Sequence[str], min_kept: int) -> list[float]:
    """What the widest layer of these parts may keep, as shares of its channels; the others keep the same share."""
    sizes = [group.size for group in layout.groups if group.part in parts]
    if min_kept > min(sizes):
        raise UserError(f"min_kept={min_kept} is more than the {min(sizes)} channels of the narrowest layer")
    return [width / max(sizes) for width in range(min_kept, max(sizes) + 1)]


def _counts(layout: ChannelLayout, trunk: float, upsampler: float, min_kept: int) -> dict[str, int]:
    return {
        group.name: max(min_kept, round(group.size * (upsampler if group.part == UPSAMPLER else trunk)))
        for group in layout.groups
    }
