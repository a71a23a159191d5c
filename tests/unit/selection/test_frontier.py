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
    WASTE,
    Frontier,
    choices,
    conv_widths,
    part_convs,
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


def every_count(frontier: Frontier, layout: ChannelLayout, part: str) -> list[dict[str, int]]:
    """All counts of a part that fit its streams."""
    free = choices(layout).free
    names = list(frontier.options)
    found = [
        dict(zip(names, counts, strict=True))
        for counts in itertools.product(*(frontier.options[name] for name in names))
    ]
    return [
        counts for counts in found if all(conv_widths(conv, counts, free).fit() for conv in part_convs(layout, part))
    ]


@pytest.mark.parametrize("part", ["backward", "forward", "upsampler"])
@pytest.mark.parametrize("rule", RULES)
def test_against_exhaustive_search(rule: str, part: str) -> None:
    layout = small(rule)
    times, worth, free = table(layout), spread(layout), choices(layout).free
    frontier = Frontier(layout, part, worth, times, "macs")
    groups = [group for group in layout.groups if group.part == part]
    convs = part_convs(layout, part)

    def of(counts: dict[str, int]) -> tuple[float, float, float]:
        cut = frontier.cut(counts)
        assert {group.name: group.size - len(cut[group.name]) for group in groups} == {
            group.name: counts[group.name] for group in groups
        }
        kept = sum(
            worth[group.name][[u for u in range(group.size) if u not in cut[group.name]]].sum() for group in groups
        )
        ms = sum(times.conv_ms(conv, conv_widths(conv, counts, free)) for conv in convs)
        return kept, ms, sum(conv.scale**2 * conv.weights(counts) for conv in convs)

    every = every_count(frontier, layout, part)
    _, dense_ms, dense_macs = of({name: counts[0] for name, counts in frontier.options.items()})
    for counts in every:
        kept, ms, macs = of(counts)
        assert frontier.worth(counts) == pytest.approx(kept, rel=1e-12)
        assert frontier.milliseconds(counts) == pytest.approx(ms, rel=1e-12)
        assert frontier.amount(counts) == macs

    def gain(counts: dict[str, int], price: float) -> float:
        kept, ms, macs = of(counts)
        waste = ms - macs * dense_ms / dense_macs
        return kept - price * (ms + (WASTE - 1) * waste)

    for price in (0.0, 3.0, 10.0, 30.0, 100.0, 1e9):
        best = max(gain(counts, price) for counts in every)
        assert gain(frontier.best(price), price) == pytest.approx(best, rel=1e-9), price


def test_the_parts_have_every_convolution_whose_width_changes() -> None:
    for rule in RULES:
        layout = small(rule)
        names = [conv.name for part in ("backward", "forward", "upsampler") for conv in part_convs(layout, part)]
        whole = {conv.name for conv in layout.convs}
        constant = set() if rule == "aligned" else {"backward_trunk.first", "forward_trunk.first"}
        assert sorted(names) == sorted(whole - constant)


@pytest.mark.parametrize("name", ["macs", "params"])
@pytest.mark.parametrize("part", ["backward", "upsampler"])
@pytest.mark.parametrize("rule", RULES)
def test_budgets_are_met_and_counts_lie_on_the_grid(rule: str, part: str, name: str) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=64, blocks=6), rule)
    frontier = Frontier(layout, part, spread(layout), table(layout, stairs=16), name)
    tolerance = 0.02 if part == "backward" else 0.08  # four layers have few combinations
    for share in (0.9, 0.7, 0.5):
        counts = frontier.reach(frontier.dense * share, tolerance)
        assert frontier.amount(counts) == pytest.approx(frontier.dense * share, rel=tolerance)
        groups = [group for group in layout.groups if group.part == part]
        assert all(counts[group.name] in grid(group.size) for group in groups)


def test_counts_of_other_parts_stay_as_they_are() -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=8, blocks=1), "aligned")
    fixed = {"backward_trunk.stream": 3, "forward_trunk.stream": 5}
    frontier = Frontier(layout, "upsampler", spread(layout), table(layout), "macs", fixed=fixed)
    counts = frontier.reach(0.5 * frontier.dense, 0.02)
    assert {name: counts[name] for name in fixed} == fixed
    assert set(frontier.cut(counts)) == {"fusion", "upconv1", "upconv2", "conv_hr"}


def test_nothing_is_cut_when_everything_is_wanted() -> None:
    layout = small("rsc")
    frontier = Frontier(layout, "forward", spread(layout), table(layout), "macs")
    assert not any(frontier.cut(frontier.reach(frontier.dense, 0.02)).values())


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
    frontier = Frontier(layout, "forward", worth, TimeTable(times), "macs")
    cut = frontier.cut(frontier.reach(0.4 * frontier.dense, 0.3))  # as the frontier has it, without repairs
    blocks = [f"forward_trunk.blocks.{index}" for index in range(12)]
    sides = {frozenset(cut[f"{block}.{side}"]) for block in blocks for side in ("conv1.input", "conv2")}
    assert len(sides) == 1
    assert len(next(iter(sides))) > 0


def test_what_cannot_be_reached_comes_as_near_as_it_can() -> None:
    layout = ChannelLayout(
        (ChannelGroup("a", "forward", "middle", 4, (Gate("a", "output"),)),),
        (ConvLayer("a", 1, (Slot(1),), Slot(4, "a")),),
    )
    frontier = Frontier(layout, "forward", {"a": np.array([1.0, 2.0, 3.0, 4.0])}, table(layout), "macs")
    assert frontier.reach(2.2, 0.02) == {"a": 2}
    assert frontier.reach(0.5, 0.02) == {"a": 1}


def test_an_unknown_amount_is_refused() -> None:
    layout = small("rsc")
    with pytest.raises(UserError, match=f"amount must be one of {', '.join(AMOUNTS)}; got 'area'"):
        Frontier(layout, "forward", spread(layout), table(layout), "area")


def test_a_table_survives_json() -> None:
    layout = small("rsc")
    times = table(layout)
    again = TimeTable.from_json(times.to_json())
    assert again.to_json() == times.to_json()
