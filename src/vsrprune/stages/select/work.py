"""Choose what goes: the least important units, widths, or nothing where single weights are masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from vsrprune.channels.plan import PrunePlan
from vsrprune.config.job import TIMED_TARGETS
from vsrprune.networks.fast.precision import MULTIPLES
from vsrprune.pruning.masking import mask_smallest
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import least_counts
from vsrprune.selection.budget import REALTIME, Budget, budget
from vsrprune.selection.controls import random_units
from vsrprune.selection.timed import TimedSelection
from vsrprune.selection.units import select
from vsrprune.selection.widths import narrow_plan
from vsrprune.stages.bench import Bench
from vsrprune.stages.select.recipe import Inputs, Selection
from vsrprune.stages.select.ways import Ways


def make(bench: Bench, inputs: Inputs) -> Selection:
    """The plan of the job's method, or of a round of it."""
    config = bench.config
    selection = CHOICES[bench.method.plan](bench, inputs)
    if config.units == "random" and bench.method.plan == "ranked":
        # The counts stay, and with them the budget and the time that were reached.
        plan = random_units(bench.job.layout, selection.plan, config.pruning_seed)
        selection = replace(selection, plan=plan)
    if config.target in ("macs", "params") and config.round_to != 1:
        selection.budget.check(config.round_to)
    return selection


def _ranked(bench: Bench, inputs: Inputs) -> Selection:
    """The least important units cut."""
    assert inputs.scores is not None, "a ranked plan reads scores"
    layout, asked, scores = bench.job.layout, bench.config.asked, inputs.scores.by_layer
    if asked.target == "units" and asked.scope == "global" and asked.round_to != 1:
        # Rounding moves units between layers of different cost: what it keeps is the MACs of the unrounded plan, or
        # the least that rounded counts can keep.
        unrounded = select(layout, scores, replace(asked, round_to=1)).kept_counts
        kept = max(layout.macs_per_pixel(counts) for counts in (unrounded, least_counts(layout, asked)))
        asked = replace(asked, ratio=1 - kept / layout.macs_per_pixel(), target="macs")
    if asked.round_to == "auto":
        return _timed(bench, inputs, asked.ratio, asked.target)
    plan = select(layout, scores, asked)
    # Where layers were given ratios of their own, no ratio was asked for as a whole: the budget names the one reached.
    by_layer = asked.scope == "per_layer" or (asked.parts and asked.scope != "global" and asked.target == "units")
    return Selection(
        plan, budget(layout, plan, plan.units_cut / layout.units if by_layer else asked.ratio, asked.target)
    )


def _timed(bench: Bench, inputs: Inputs, ratio: float, target: str) -> Selection:
    """Counts that are fast on this device."""
    assert inputs.scores is not None, "a ranked plan reads scores"
    assert inputs.times is not None, "round_to=auto reads times"
    config, layout = bench.config, bench.job.layout
    multiple = MULTIPLES[config.evaluate.precision]
    selection = TimedSelection(layout, inputs.scores.by_layer, inputs.times.tables, config.asked, multiple)
    if not selection.falls:
        bench.note(
            "round_to=auto: the times of convolutions hardly fall with their channels here, since frames of"
            f" {'x'.join(map(str, config.evaluate.latency_size))} are small for this device; counts are multiples of"
            f" {multiple} instead, where they can be"
        )
    # Tables are enough for an amount of MACs; a wish in milliseconds is checked against measurements of whole networks.
    if config.target not in TIMED_TARGETS:
        return Selection(*selection.for_amount(target, ratio))
    ways = Ways(bench)
    dense_ms = ways.milliseconds(PrunePlan.keep_all(config.rule, layout))
    wanted = config.target_ms or dense_ms * (1 - ratio)
    choose = selection.for_deadline if target == REALTIME else selection.for_latency
    return Selection(*choose(wanted, dense_ms, ways.milliseconds))


def _narrow(bench: Bench, inputs: Inputs) -> Selection:
    """The widths of a network that is trained from scratch."""
    layout, asked = bench.job.layout, bench.config.asked
    plan = narrow_plan(layout, asked)
    return Selection(plan, budget(layout, plan, asked.ratio, asked.target))


def _whole(bench: Bench, inputs: Inputs) -> Selection:
    """All channels, whatever the job asks for."""
    plan = PrunePlan.keep_all(bench.config.rule, bench.job.layout)
    return Selection(plan, budget(bench.job.layout, plan, 0.0, "units"))


def _masked(bench: Bench, inputs: Inputs) -> Selection:
    """All channels, and what their weights cost once the smallest are zeros."""
    assert inputs.dense is not None, "weights are masked in the dense network"
    layout, config = bench.job.layout, bench.config
    plan = PrunePlan.keep_all(config.rule, layout)
    reached: Budget = mask_smallest(compact(inputs.dense.network.load(), plan), layout, config.ratio, config.target)
    return Selection(plan, reached)


CHOICES: Mapping[str, Callable[[Bench, Inputs], Selection]] = {
    "ranked": _ranked,
    "narrow": _narrow,
    "masked": _masked,
    "whole": _whole,
}
