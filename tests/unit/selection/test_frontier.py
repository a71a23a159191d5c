"""The frontier against exhaustive search, and its counts against their budgets."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest

from vsrprune.channels.layout import ChannelGroup, ChannelLayout, ConvLayer, Gate, Slot
from vsrprune.channels.operations import Operation, TimeTable, forms, grid, grid_step
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.selection.frontier import (
    AMOUNTS,
    Frontier,
    choices,
    conv_widths,
    timed_operations,
    width_variables,
)

RULES = ("rsc", "aligned", "inner")


def table(layout: ChannelLayout, seed: int = 0, stairs: int = 1) -> TimeTable:
    """Times that rise with the work, in stairs of so many channels, and differ by operation."""
    draw = np.random.default_rng(seed)

    def up(channels: int) -> int:
        return -(-channels // stairs) * stairs

    def ms(operation: Operation) -> float:
        work = up(operation.reads) * up(operation.writes) * operation.kernel**2 if operation.kind == "conv" else 0
        return (work + 8 * (operation.reads + operation.writes)) * draw.uniform(0.9, 1.1) / 1e4

    return TimeTable({operation: ms(operation) for operation in timed_operations(layout)})


def spread(layout: ChannelLayout, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {group.name: draw.gamma(4.0, 0.25, group.size) for group in layout.groups}


def small(rule: str, **arguments: object) -> ChannelLayout:
    values = {"channels": 3, "blocks": 1, "upsampler_channels": 2, "upscale_factors": (2,), **arguments}
    return basicvsr_layout(BasicVSRArguments(**values), rule)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "step"), [(64, 8), (63, 4), (16, 2), (15, 1), (8, 1), (3, 1), (128, 16)])
def test_the_grid_has_steps_of_a_power_of_two(size: int, step: int) -> None:
    assert grid_step(size) == step
    counts = grid(size)
    assert counts[0] == size
    assert counts == sorted(set(counts), reverse=True)
    assert all(count % step == 0 for count in counts[1:])
    assert len(counts) <= 16
    assert min(grid(size, at_least=3)) >= min(3, size)


def test_forms_of_a_block_of_a_free_stream() -> None:
    layout = small("rsc")
    conv = next(conv for conv in layout.convs if conv.name.endswith("blocks.0.conv1"))
    free = choices(layout).free
    assert free == {"backward_trunk", "forward_trunk"}
    names = width_variables(conv, free)
    assert names == (f"{conv.name}.input", "backward_trunk", conv.name)
    widths = conv_widths(conv, {names[0]: 1, names[1]: 2, names[2]: 3}, free)
    activation = Operation("activation", 3, 3)
    assert forms(conv, widths) == [
        (Operation("gather", 2, 1), Operation("conv", 1, 3, 3), activation),
        (Operation("conv", 2, 3, 3), activation),
    ]
    whole = conv_widths(conv, {names[0]: 2, names[1]: 2, names[2]: 3}, free)
    assert forms(conv, whole) == [(Operation("conv", 2, 3, 3), activation)]
    back = next(conv for conv in layout.convs if conv.name.endswith("blocks.0.conv2"))
    assert forms(back, conv_widths(back, {back.name: 1, "backward_trunk": 2, conv.name: 3}, free)) == [
        (Operation("conv", 3, 2, 3), Operation("add", 2, 2)),
        (Operation("conv", 3, 1, 3), Operation("scatter", 1, 2)),
    ]


@pytest.mark.parametrize("rule", ["aligned", "inner"])
def test_streams_that_blocks_share_are_not_free(rule: str) -> None:
    assert choices(small(rule)).free == frozenset()


def tiny(rule: str) -> ChannelLayout:
    """A branch and an upsampler with so few counts that all can be tried."""
    sizes = {"channels": 3, "blocks": 1} if rule == "rsc" else {"channels": 4, "blocks": 3 if rule == "inner" else 2}
    return small(rule, bidirectional=False, upsampler_channels=5, **sizes)


def every_count(layout: ChannelLayout) -> list[dict[str, int]]:
    """All counts on the grid that fit the streams."""
    chosen = choices(layout)
    found = [dict(zip(chosen.options, counts, strict=True)) for counts in itertools.product(*chosen.options.values())]
    return [counts for counts in found if all(conv_widths(conv, counts, chosen.free).fit() for conv in layout.convs)]


@pytest.mark.parametrize("rule", RULES)
def test_against_exhaustive_search_of_the_whole_network(rule: str) -> None:
    layout = tiny(rule)
    times, worth, free = table(layout, stairs=2), spread(layout), choices(layout).free
    frontier = Frontier(layout, worth, times, "macs")

    def of(counts: dict[str, int]) -> tuple[float, float]:
        cut = frontier.cut(counts)
        assert {group.name: group.size - len(cut[group.name]) for group in layout.groups} == {
            group.name: counts[group.name] for group in layout.groups
        }
        kept = (np.delete(worth[group.name], sorted(cut[group.name])).sum() for group in layout.groups)
        return sum(kept), sum(times.conv_ms(conv, conv_widths(conv, counts, free)) for conv in layout.convs)

    every = every_count(layout)
    assert len(every) > 500
    found = [of(counts) for counts in every]
    for counts, (kept, ms) in list(zip(every, found, strict=True))[::7]:
        assert frontier.worth(counts) == pytest.approx(kept, rel=1e-12)
        assert frontier.milliseconds(counts) == pytest.approx(ms, rel=1e-12)
        assert frontier.amount(counts) == layout.macs_per_pixel(counts)
    for price in (0.0, 3.0, 10.0, 30.0, 100.0, 1e9):
        kept, ms = of(frontier.best(price))
        best = max(kept - price * ms for kept, ms in found)
        assert kept - price * ms == pytest.approx(best, rel=1e-9), price
        # What a price finds is the knapsack's solution for the time that it takes.
        assert kept == pytest.approx(max(other for other, time in found if time <= ms * (1 + 1e-12)), rel=1e-9)


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("rule", RULES)
def test_a_budget_is_met_near_the_best_of_all_counts_that_meet_it(rule: str, amount: str) -> None:
    """The knapsack by brute force: the highest score that is kept in no more time, of all counts within the budget."""
    layout = tiny(rule)
    times, worth = table(layout, stairs=2), spread(layout)
    frontier = Frontier(layout, worth, times, amount)
    every = every_count(layout)
    amounts = np.array([frontier.amount(counts) for counts in every])
    kept = np.array([frontier.worth(counts) for counts in every])
    ms = np.array([frontier.milliseconds(counts) for counts in every])
    for share in (0.8, 0.65, 0.5):
        wanted = frontier.amount(frontier.dense) * share
        counts = frontier.reach(wanted, 0.02)
        assert frontier.amount(counts) == pytest.approx(wanted, rel=0.02)
        rivals = (np.abs(amounts / wanted - 1) <= 0.02) & (ms <= frontier.milliseconds(counts))
        assert frontier.worth(counts) >= 0.9 * kept[rivals].max()  # repairs go one step at a time


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("rule", RULES)
def test_budgets_are_met_and_counts_lie_on_the_grid(rule: str, name: str) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=64, blocks=6), rule)
    frontier = Frontier(layout, spread(layout), table(layout, stairs=16), name)
    for share in (0.9, 0.7, 0.5):
        counts = frontier.reach(frontier.amount(frontier.dense) * share, 0.02)
        assert frontier.amount(counts) == pytest.approx(frontier.amount(frontier.dense) * share, rel=0.02)
        assert all(counts[group.name] in grid(group.size) for group in layout.groups)


def test_amounts_of_the_dense_network_are_the_layouts() -> None:
    layout = small("rsc")
    for name, dense in (("macs", layout.macs_per_pixel()), ("params", layout.parameters())):
        frontier = Frontier(layout, spread(layout), table(layout), name)
        assert frontier.amount(frontier.dense) == dense


def test_nothing_is_cut_when_everything_is_wanted() -> None:
    layout = small("rsc")
    for name in AMOUNTS:
        frontier = Frontier(layout, spread(layout), table(layout), name)
        assert not any(frontier.cut(frontier.reach(frontier.amount(frontier.dense), 0.02)).values())


def conv_work(operation: Operation) -> float:
    """Multiply-accumulates of a convolution, 0 of anything else."""
    return operation.reads * operation.writes * operation.kernel**2 * (operation.kind == "conv")


def test_blocks_share_channels_where_a_gather_is_dear() -> None:
    layout = basicvsr_layout(BasicVSRArguments(16, 12, upsampler_channels=4, bidirectional=False), "rsc")
    times: Mapping[Operation, float] = {
        operation: 1e6 if operation.kind in ("gather", "scatter") else conv_work(operation)
        for operation in timed_operations(layout)
    }
    dear = {group.name: 100 if group.kind == "middle" else 1 for group in layout.groups}  # else only these are cut
    worth = {name: values * dear[name] for name, values in spread(layout).items()}
    frontier = Frontier(layout, worth, TimeTable(times), "macs")
    cut = frontier.cut(
        frontier.reach(0.4 * frontier.amount(frontier.dense), 0.3)
    )  # as the frontier has it, without repairs
    blocks = [f"forward_trunk.blocks.{index}" for index in range(12)]
    sides = {frozenset(cut[f"{block}.{side}"]) for block in blocks for side in ("conv1.input", "conv2")}
    assert len(sides) == 1
    assert len(next(iter(sides))) > 0


def test_what_cannot_be_reached_comes_as_near_as_it_can() -> None:
    layout = ChannelLayout(
        (ChannelGroup("a", "forward", "middle", 4, (Gate("a", "output"),)),),
        (ConvLayer("a", 1, (Slot(1),), Slot(4, "a")),),
    )
    frontier = Frontier(layout, {"a": np.array([1.0, 2.0, 3.0, 4.0])}, table(layout), "macs")
    assert frontier.reach(2.2, 0.02) == {"a": 2}
    assert frontier.reach(0.5, 0.02) == {"a": 1}


def test_an_unknown_amount_is_refused() -> None:
    layout = small("rsc")
    with pytest.raises(UserError, match=f"amount must be one of {', '.join(AMOUNTS)}; got 'area'"):
        Frontier(layout, spread(layout), table(layout), "area")


def test_a_table_survives_json() -> None:
    layout = small("rsc")
    times = table(layout)
    again = TimeTable.from_json(times.to_json())
    assert again.to_json() == times.to_json()
