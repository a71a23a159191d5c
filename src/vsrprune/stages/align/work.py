"""Train the gates of layers that share channels to agree."""

from __future__ import annotations

import numpy as np

from vsrprune.pruning.reparametrisation import normalise_filters
from vsrprune.selection.units import select
from vsrprune.stages.align.module import Align
from vsrprune.stages.align.recipe import Aligned, Inputs
from vsrprune.stages.bench import Bench
from vsrprune.stages.training.module import Rates


def make(bench: Bench, inputs: Inputs) -> Aligned:
    """The dense network with normalised filters, and gates that agree."""
    schedule, layout, network = bench.config.schedule.align, bench.job.layout, inputs.dense.network.load()
    # scope=local: how many channels each layer keeps does not depend on the scores, which come later.
    kept = select(layout, {group.name: np.zeros(group.size) for group in layout.groups}, bench.config.asked).kept_counts
    normalise_filters(network, layout)
    # Normalised first: the gates then hold the whole scale of a filter, and gates are what the layers have to agree in.
    module = Align(
        network,
        layout,
        kept,
        steps=schedule.steps,
        rates=Rates(schedule.lr, schedule.gate_lr),
        weight=schedule.weight,
    )
    saved = bench.train(module, bench.config.pruning_seed)
    return Aligned(saved, module.monitors())
