"""The frontier against exhaustive search, and its plans against their targets."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

import numpy as np
import pytest

from vsrprune.channels import ChannelGroup, ChannelLayout, ConvLayer, Gate, PrunePlan, Slot
from vsrprune.errors import UserError
from vsrprune.models.basicvsr_channels import BasicVSRArguments, basicvsr_layout
from vsrprune.operations import Operation, TimeTable, forms, grid, grid_step
from vsrprune.pruning.frontier import AMOUNTS, Frontier, choices, conv_widths, timed_operations, width_variables

RULES = ("rsc", "aligned", "inner")


def table(layout: ChannelLayout, seed: int = 0, stairs: int = 1) -> TimeTable:
    """Times that rise with the work, in stairs of so many channels, and differ by operation."""
    draw = np.random.default_rng(seed)

    def up(channels: int) -> int:
        return -(-channels // stairs) * stairs

    def ms(operation: Operation) -> float:
        work = up(operation.reads) * up(operation.writes) * operation.kernel**2 if operation.kind == "conv" else 0
        return (work + 8 * (operation.reads + operation.writes)) * operation.scale**2 * draw.uniform(0.9, 1.1) / 1e4

    return TimeTable({operation: ms(operation) for operation in timed_operations(layout)})


def spread(layout: ChannelLayout, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {group.name: draw.gamma(4.0, 0.25, group.size) for group in layout.groups}


def small(rule: str, **arguments: object) -> ChannelLayout:
    values = {"channels": 3, "blocks": 1, "upsampler_channels": 2, "upscale_factors": (2,), **arguments}
    return basicvsr_layout(BasicVSRArguments(**values), rule)  # type: ignore[arg-type]


def amount(layout: ChannelLayout, plan: PrunePlan, name: str) -> float:
    return (layout.macs_per_pixel if name == "macs" else layout.parameters)(plan.kept_counts)


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


def every_plan(layout: ChannelLayout) -> list[dict[str, int]]:
    chosen = choices(layout)
    names = list(chosen.options)
    return [
        dict(zip(names, counts, strict=True))
        for counts in itertools.product(*(chosen.options[name] for name in names))
        if all(conv_widths(conv, dict(zip(names, counts, strict=True)), chosen.free).fit() for conv in layout.convs)
    ]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("rule", RULES)
def test_against_exhaustive_search(rule: str, bidirectional: bool) -> None:
    arguments = {"channels": 2, "upsampler_channels": 2} if bidirectional else {}
    layout = small(rule, bidirectional=bidirectional, **arguments)
    times, worth, free = table(layout), spread(layout), choices(layout).free
    frontier = Frontier(layout, worth, times, "macs")
    counted = []
    for counts in every_plan(layout):
        plan = frontier.plan(rule, counts)
        kept = sum(worth[name][list(channels)].sum() for name, channels in plan.kept.items())
        ms = sum(times.conv_ms(conv, conv_widths(conv, counts, free)) for conv in layout.convs)
        counted.append((counts, kept, ms))
        assert frontier.milliseconds(counts) == pytest.approx(ms, rel=1e-12)
        assert plan.kept_counts == {group.name: counts[group.name] for group in layout.groups}
    for price in (0.0, 3.0, 10.0, 30.0, 100.0, 1e9):
        best = max(kept - price * ms for _, kept, ms in counted)
        found = frontier.best(price)
        kept, ms = next((kept, ms) for counts, kept, ms in counted if counts == found)
        assert kept - price * ms == pytest.approx(best, rel=1e-12), price


@pytest.mark.parametrize("name", ["macs", "params"])
@pytest.mark.parametrize("rule", RULES)
def test_targets_are_reached_and_counts_lie_on_the_grid(rule: str, name: str) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=64, blocks=3), rule)
    frontier = Frontier(layout, spread(layout), table(layout, stairs=16), name)
    dense = amount(layout, PrunePlan.keep_all(rule, layout), name)
    assert frontier.dense == dense
    for ratio in (0.1, 0.3, 0.5, 0.7):
        if dense * (1 - ratio) < frontier.least:
            continue
        plan = frontier.plan(rule, frontier.reach(dense * (1 - ratio), 0.02))
        assert amount(layout, plan, name) == pytest.approx(dense * (1 - ratio), rel=0.02)
        assert all(plan.kept_counts[group.name] in grid(group.size) for group in layout.groups)


@pytest.mark.parametrize("rule", RULES)
def test_a_time_by_the_table_is_reached(rule: str) -> None:
    layout = basicvsr_layout(BasicVSRArguments(channels=64, blocks=3), rule)
    frontier = Frontier(layout, spread(layout), table(layout, stairs=16), "latency")
    for share in (0.8, 0.5):
        wanted = max(frontier.least, share * frontier.dense)
        counts = frontier.reach(wanted, 0.02)
        assert frontier.milliseconds(counts) == pytest.approx(wanted, rel=0.02)


def test_nothing_is_cut_when_everything_is_wanted() -> None:
    layout = small("rsc")
    frontier = Frontier(layout, spread(layout), table(layout), "macs")
    assert frontier.plan("rsc", frontier.reach(frontier.dense, 0.02)).units_cut == 0


def conv_work(operation: Operation) -> float:
    """Multiply-accumulates of a convolution, 0 of anything else."""
    return operation.reads * operation.writes * (operation.kernel * operation.scale) ** 2 * (operation.kind == "conv")


def test_blocks_share_channels_where_a_gather_is_dear() -> None:
    layout = basicvsr_layout(BasicVSRArguments(16, 12, upsampler_channels=4, bidirectional=False), "rsc")
    times: Mapping[Operation, float] = {
        operation: 1e6 if operation.kind in ("gather", "scatter") else conv_work(operation)
        for operation in timed_operations(layout)
    }
    dear = {group.name: 100 if group.kind == "middle" else 1 for group in layout.groups}  # else only these are cut
    worth = {name: values * dear[name] for name, values in spread(layout).items()}
    plan_of = Frontier(layout, worth, TimeTable(times), "macs")
    plan = plan_of.plan("rsc", plan_of.reach(0.4 * plan_of.dense, 0.02))
    blocks = [f"forward_trunk.blocks.{index}" for index in range(12)]
    sides = {plan.kept[f"{block}.{side}"] for block in blocks for side in ("conv1.input", "conv2")}
    assert len(sides) == 1
    assert len(next(iter(sides))) < 16


def test_what_cannot_be_reached_is_said() -> None:
    layout = ChannelLayout(
        (ChannelGroup("a", "forward", "middle", 2, (Gate("a", "output"),)),),
        (ConvLayer("a", 1, (Slot(1),), Slot(2, "a")),),
    )
    frontier = Frontier(layout, {"a": np.array([1.0, 2.0])}, table(layout), "macs")
    with pytest.raises(UserError, match=re.escape("keeps 75.0% of the macs; the nearest keep 50.0% and 100.0%")):
        frontier.reach(1.5, 0.02)


def test_an_unknown_target_is_refused() -> None:
    layout = small("rsc")
    with pytest.raises(UserError, match=f"target must be one of {', '.join(AMOUNTS)}; got 'area'"):
        Frontier(layout, spread(layout), table(layout), "area")


def test_a_table_survives_json() -> None:
    layout = small("rsc")
    times = table(layout)
    again = TimeTable.from_json(times.to_json())
    assert again.to_json() == times.to_json()
