"""Train the gates of layers that share channels to agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vsrprune.pruning.reparametrisation import normalise_filters
from vsrprune.selection.units import select
from vsrprune.stages.align.module import Align
from vsrprune.stages.align.recipe import Aligned, Inputs
from vsrprune.stages.bench import Bench
from vsrprune.stages.training.module import Rates
from vsrprune.stages.training.teacher import Teacher


def make(bench: Bench, inputs: Inputs) -> Aligned:
    """The dense network with gates that agree."""
    schedule, layout, network = bench.config.schedule.align, bench.job.layout, inputs.dense.network.load()
    # Scores come later, so no layer's count can depend on them: the same share of every layer, whatever the scope.
    asked = bench.config.asked
    counted = asked if asked.scope == "per_layer" else replace(asked, scope="local")
    kept = select(layout, {group.name: np.zeros(group.size) for group in layout.groups}, counted).kept_counts
    if bench.config.method.normalised:
        # First: the gates then hold the whole scale of a filter, and gates are what the layers have to agree in.
        normalise_filters(network, layout)
    unlabelled = bench.config.data.weight_without_truth
    module = Align(
        network,
        layout,
        kept,
        steps=schedule.steps,
        rates=Rates(schedule.lr, schedule.gate_lr),
        weight=schedule.weight,
    )
    if unlabelled:
        module.teacher = Teacher(inputs.dense.network.load(), 0.0, 0.0, unlabelled)
    saved = bench.train(module, bench.config.pruning_seed)
    return Aligned(saved, module.monitors())
