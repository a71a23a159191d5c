"""The frontier of kept score against measured time of a network, for `round_to=auto`.

Latency is a staircase in the channel counts, and a block that reads or writes an odd set of a stream's channels pays
for gathering them. So counts come from a grid, blocks of a branch may share the channels they touch, and the counts are
those that maximise

    sum of kept scores - price * milliseconds of the convolutions

for some price of a millisecond, the milliseconds read from a table of timed operations: no other counts keep more in
that time. Raising the price walks along the frontier from the dense network to the fastest one; the walk stops where
the budget (MACs, parameters or milliseconds) is met.

The maximum is exact: scores depend on one layer and times on the few layers at a convolution's ends, so that layers
can be eliminated one after the other (dynamic programming on a graph of small tables). The sum must mean something:
scores must be additive (`selection/scores.py`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsrprune.channels.layout import ChannelGroup, ChannelLayout, ConvLayer, Slot
from vsrprune.channels.operations import Operation, TimeTable, Widths, forms, grid
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import one_of

Array = NDArray[np.float64]
Counts = dict[str, int]  # by group: kept channels; by free stream: channels that its blocks touch
AMOUNTS = ("macs", "params", "ms")

IMPOSSIBLE = -np.inf
DOUBLINGS = 40  # of the price, up and down from worth per millisecond of the dense network
BISECTIONS = 40
REPAIRS = 200  # single changes that bring a plan to its target


@dataclass(frozen=True)
class Choices:
    """The grid of counts that a plan may have, by variable, largest first, and which streams are free.

    A stream is *free* if blocks choose among its channels (the Residual Sparsity Connection): then the number of
    channels that they touch at all is a choice of its own.
    """

    options: Mapping[str, Sequence[int]]
    free: frozenset[str]


def choices(layout: ChannelLayout, min_kept: int = 1) -> Choices:
    """What can be chosen in this layout."""
    options: dict[str, Sequence[int]] = {group.name: grid(group.size, min_kept) for group in layout.groups}
    groups_of: dict[str, set[str | None]] = {}
    sizes: dict[str, int] = {}
    for conv in layout.convs:
        for slot in (*conv.inputs, conv.output):
            if slot.stream:
                groups_of.setdefault(slot.stream, set()).add(slot.group)
                sizes[slot.stream] = slot.size
    free = frozenset(stream for stream, names in groups_of.items() if len(names) > 1)
    return Choices({**options, **{stream: grid(sizes[stream], min_kept) for stream in free}}, free)


def width_variables(conv: ConvLayer, free: frozenset[str]) -> tuple[str, ...]:
    """The variables on which the widths of a convolution depend, in a fixed order."""
    names = []
    for slot in (*conv.inputs, conv.output):
        names += [slot.group] if slot.group else []
        names += [slot.stream] if slot.stream in free else []
    return tuple(dict.fromkeys(names))


def conv_widths(conv: ConvLayer, counts: Mapping[str, int], free: frozenset[str]) -> Widths:
    """The widths of a convolution under chosen counts."""

    def kept(slot: Slot) -> int:
        return slot.size if slot.group is None else counts[slot.group]

    def stream(slot: Slot) -> int:
        if not slot.stream:
            return 0
        return counts[slot.stream] if slot.stream in free else kept(slot)

    return Widths(sum(map(kept, conv.inputs)), kept(conv.output), sum(map(stream, conv.inputs)), stream(conv.output))


def conv_amount(conv: ConvLayer, counts: Mapping[str, int], amount: str) -> float:
    """MACs per low-resolution pixel, or parameters, of a convolution."""
    return conv.macs(counts) if amount == "macs" else conv.weights(counts) + conv.filters(counts)


def timed_operations(layout: ChannelLayout, min_kept: int = 1) -> list[Operation]:
    """Every operation that some plan on the grid needs, in a fixed order."""
    chosen = choices(layout, min_kept)
    operations: dict[Operation, None] = {}
    for conv in layout.convs:
        names = width_variables(conv, chosen.free)
        for counts in itertools.product(*(chosen.options[name] for name in names)):
            widths = conv_widths(conv, dict(zip(names, counts, strict=True)), chosen.free)
            if widths.fit():
                operations.update(dict.fromkeys(itertools.chain(*forms(conv, widths))))
    return list(operations)


def plan_milliseconds(layout: ChannelLayout, plan: PrunePlan, table: TimeTable) -> float:
    """Time of a plan's convolutions on a low-resolution frame by the table; its counts must lie on the grid."""
    chosen = choices(layout)
    counts = plan.kept_counts
    for stream in chosen.free:
        slots = [slot for conv in layout.convs for slot in (*conv.inputs, conv.output) if slot.stream == stream]
        touched = set[int]().union(*(plan.kept[slot.group] for slot in slots if slot.group is not None))
        counts[stream] = min(count for count in chosen.options[stream] if count >= len(touched))
    return sum(table.conv_ms(conv, conv_widths(conv, counts, chosen.free)) for conv in layout.convs)


@dataclass(frozen=True)
class _Factor:
    """What some variables' counts are worth, take and amount to: arrays with one axis per variable."""

    names: tuple[str, ...]
    worth: Array
    ms: Array
    amount: Array

    def place(self, counts: Counts, index: Mapping[str, Mapping[int, int]]) -> tuple[int, ...]:
        """Where in the arrays these counts stand."""
        return tuple(index[name][counts[name]] for name in self.names)


class Frontier:
    """The counts of highest kept score, for every price of a millisecond.

    worth: by group the worth of keeping each unit, >= 0. amount: what the budget counts: MACs (per low-resolution
    pixel), params, or ms, the milliseconds themselves.
    """

    def __init__(
        self, layout: ChannelLayout, worth: Mapping[str, Array], times: TimeTable, amount: str, min_kept: int = 1
    ) -> None:
        one_of("amount", amount, AMOUNTS)
        self._layout, self._worth, self._times, self._amount = layout, worth, times, amount
        chosen = choices(layout, min_kept)
        self.options, self._free = chosen.options, chosen.free
        self._index = {name: {count: at for at, count in enumerate(counts)} for name, counts in self.options.items()}
        self._stream_of = self._streams()
        self._ranking = self._stream_rankings()
        self._factors = [*map(self._group_factor, layout.groups), *map(self._conv_factor, layout.convs)]
        self._of = {name: [factor for factor in self._factors if name in factor.names] for name in self.options}
        self._order = _elimination_order([factor.names for factor in self._factors], self.options)

    @property
    def dense(self) -> Counts:
        """The counts of the network as it is."""
        return {name: counts[0] for name, counts in self.options.items()}

    def amount(self, counts: Counts) -> float:
        """What the convolutions amount to."""
        return sum(float(factor.amount[factor.place(counts, self._index)]) for factor in self._factors)

    def milliseconds(self, counts: Counts) -> float:
        """Time of the convolutions by the table."""
        return sum(float(factor.ms[factor.place(counts, self._index)]) for factor in self._factors)

    def worth(self, counts: Counts) -> float:
        """Sum of the kept scores."""
        return sum(float(factor.worth[factor.place(counts, self._index)]) for factor in self._factors)

    def best(self, price: float) -> Counts:
        """Counts with the highest worth less `price` times their milliseconds."""
        at = _maximum([(factor.names, factor.worth - price * factor.ms) for factor in self._factors], self._order)
        return {name: self.options[name][place] for name, place in at.items()}

    def reach(self, wanted: float, tolerance: float) -> Counts:
        """Counts on the frontier whose amount is `wanted` within a relative `tolerance`, or else the nearest found."""
        if wanted >= self.amount(self.dense) * (1 - 1e-9):  # sums of milliseconds are rounded
            return self.dense
        found = [(self._repaired(start, price, wanted, tolerance), price) for start, price in self._around(wanted)]
        price = found[0][1]

        def rank(counts: Counts) -> tuple[float, float]:
            miss = abs(self.amount(counts) - wanted)
            # All misses within the tolerance count the same; among them the gain decides.
            return -max(miss, tolerance * wanted), self.worth(counts) - price * self.milliseconds(counts)

        return max((counts for counts, _ in found), key=rank)

    def cut(self, counts: Counts) -> dict[str, set[int]]:
        """By group the units to cut so that the most worthy stay in these counts."""
        cut = {}
        for group in self._layout.groups:
            allowed = set(range(group.size))
            if group.name in self._stream_of:
                stream = self._stream_of[group.name]
                allowed = set(self._ranking[stream][: counts[stream]])
            ranked = [unit for unit in _ranked(self._worth[group.name]) if unit in allowed]
            cut[group.name] = set(range(group.size)) - set(ranked[: counts[group.name]])
        return cut

    def _streams(self) -> dict[str, str]:
        """By group whose units are channels of a free stream, that stream."""
        slots = [slot for conv in self._layout.convs for slot in (*conv.inputs, conv.output)]
        return {slot.group: slot.stream for slot in slots if slot.group is not None and slot.stream in self._free}

    def _stream_rankings(self) -> dict[str, list[int]]:
        """By free stream its channels, those first that are worth most to all its blocks together."""
        total: dict[str, Array] = {}
        for name, stream in self._stream_of.items():
            total[stream] = total.get(stream, 0.0) + self._worth[name]
        return {stream: _ranked(worth) for stream, worth in total.items()}

    def _group_factor(self, group: ChannelGroup) -> _Factor:
        worth, counts = self._worth[group.name], np.asarray(self.options[group.name])
        if group.name not in self._stream_of:
            kept = np.concatenate(([0.0], np.cumsum(np.sort(worth)[::-1])))[counts]
            return _Factor((group.name,), kept, np.zeros_like(kept), np.zeros_like(kept))
        stream, rows = self._stream_of[group.name], []
        for active in self.options[stream]:
            within = np.concatenate(([0.0], np.cumsum(np.sort(worth[self._ranking[stream][:active]])[::-1])))
            # A block cannot touch more channels than all blocks of the stream together.
            rows.append([within[count] if count <= active else IMPOSSIBLE for count in counts])
        table = np.asarray(rows)
        return _Factor((stream, group.name), table, np.zeros_like(table), np.zeros_like(table))

    def _conv_factor(self, conv: ConvLayer) -> _Factor:
        names = width_variables(conv, self._free)
        shape = tuple(len(self.options[name]) for name in names)
        ms, amount = np.zeros(shape), np.zeros(shape)
        for place in np.ndindex(shape):
            counts = {name: self.options[name][at] for name, at in zip(names, place, strict=True)}
            widths = conv_widths(conv, counts, self._free)
            if widths.fit():  # else the group's factor makes it impossible
                ms[place] = self._times.conv_ms(conv, widths)
                amount[place] = ms[place] if self._amount == "ms" else conv_amount(conv, counts, self._amount)
        return _Factor(names, np.zeros(shape), ms, amount)

    def _around(self, wanted: float) -> list[tuple[Counts, float]]:
        """The plans on the frontier next to `wanted`, above and below, and the price between them."""
        # In powers of two: prices that matter lie many orders of magnitude apart, as scores do. A worth of 0 (all
        # weights zero) still needs a price above 0.
        unit = max(self.worth(self.dense), 1e-300) / self.milliseconds(self.dense)
        low, high = -float(DOUBLINGS), float(DOUBLINGS)
        above, below = self.dense, self.best(unit * 2**high)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            counts = self.best(unit * 2**middle)
            if self.amount(counts) > wanted:
                low, above = middle, counts
            else:
                high, below = middle, counts
        price = unit * 2**high
        return [(below, price), (above, price)]

    def _repaired(self, counts: Counts, price: float, wanted: float, tolerance: float) -> Counts:
        """Change one count after the other, at the least loss for each step nearer, until the target is met."""
        for _ in range(REPAIRS):
            miss = self.amount(counts) - wanted
            nearer = self._nearer(counts, price, miss, tolerance * wanted) if abs(miss) > tolerance * wanted else None
            if nearer is None:
                break
            counts = nearer
        return counts

    def _nearer(self, counts: Counts, price: float, miss: float, enough: float) -> Counts | None:
        """The single change that loses least for each step nearer; one that goes too far only if there is no other."""
        best, best_rank = None, (False, IMPOSSIBLE)
        for name, options in self.options.items():
            for option in options:
                changed = {**counts, name: option}
                gain, amount = self._change(name, counts, changed, price)
                step = abs(miss) - abs(miss + amount)
                if step <= 0 or gain == IMPOSSIBLE:
                    continue
                # Overshooting within the tolerance ends the repair, and is no fault.
                too_far = miss * (miss + amount) < 0 and abs(miss + amount) > enough
                if (not too_far, gain / step) > best_rank:
                    best, best_rank = changed, (not too_far, gain / step)
        return best

    def _change(self, name: str, before: Counts, after: Counts, price: float) -> tuple[float, float]:
        """What changing the count of one variable adds to worth less the price of time, and to the amount."""
        gain = amount = 0.0
        for factor in self._of[name]:
            new, old = factor.place(after, self._index), factor.place(before, self._index)
            gain += float(factor.worth[new] - factor.worth[old] - price * (factor.ms[new] - factor.ms[old]))
            amount += float(factor.amount[new] - factor.amount[old])
        return gain, amount


def _ranked(worth: Array) -> list[int]:
    """Units from the most to the least worthy; of equal ones the later first, as the ranking cuts the earlier first."""
    return sorted(range(len(worth)), key=lambda unit: (worth[unit], unit), reverse=True)


def _elimination_order(scopes: Sequence[tuple[str, ...]], options: Mapping[str, Sequence[int]]) -> list[str]:
    """Variables in the order in which `_maximum` eliminates them: always the one that leaves the smallest table."""
    neighbours: dict[str, set[str]] = {name: set() for name in options}
    for names in scopes:
        for name in names:
            neighbours[name] |= set(names) - {name}
    order = []
    # Exact elimination costs as much as its largest table; the greedy order keeps that small on chains and stars of
    # layers, which is what networks are.
    while neighbours:
        name = min(neighbours, key=lambda name: math.prod(len(options[other]) for other in neighbours[name]))
        rest = neighbours.pop(name)
        for other in rest:
            neighbours[other] = (neighbours[other] | rest) - {name, other}
        order.append(name)
    return order


def _maximum(tables: Sequence[tuple[tuple[str, ...], Array]], order: Sequence[str]) -> dict[str, int]:
    """For each variable the place on its axis at which the sum of the tables is greatest, the first of equal ones."""
    remaining = list(tables)
    choices_made: list[tuple[str, tuple[str, ...], NDArray[np.intp]]] = []
    for name in order:
        touching = [table for table in remaining if name in table[0]]
        remaining = [table for table in remaining if name not in table[0]]
        names = tuple(dict.fromkeys(itertools.chain((name,), *(scope for scope, _ in touching))))
        total = sum(_aligned(scope, values, names) for scope, values in touching)
        choices_made.append((name, names[1:], np.argmax(total, axis=0)))
        remaining.append((names[1:], np.max(total, axis=0)))
    # Backwards: the best place of a variable was noted for every place of those that were eliminated later.
    at: dict[str, int] = {}
    for name, others, best in reversed(choices_made):
        at[name] = int(best[tuple(at[other] for other in others)])
    return at


def _aligned(scope: tuple[str, ...], values: Array, names: tuple[str, ...]) -> Array:
    """A table with one axis for each of `names`, of length 1 where it does not depend on a variable."""
    order = [name for name in names if name in scope]
    moved = np.transpose(values, [scope.index(name) for name in order])
    return moved[tuple(slice(None) if name in scope else None for name in names)]
