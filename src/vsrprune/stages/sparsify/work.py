"""Drive to zero what will be cut."""

from __future__ import annotations

from vsrprune.pruning.penalty import TARGETS, Growth
from vsrprune.pruning.reparametrisation import normalise_filters
from vsrprune.results.result import Gates
from vsrprune.stages.bench import Bench
from vsrprune.stages.sparsify.module import Sparsify, cut_summary
from vsrprune.stages.sparsify.recipe import Inputs, Sparsified
from vsrprune.stages.training.module import Rates
from vsrprune.stages.training.teacher import Teacher


def make(bench: Bench, inputs: Inputs) -> Sparsified:
    """The network after the growing penalty."""
    schedule, method, plan = bench.config.schedule.sparsify, bench.config.method, inputs.selection.plan
    target = TARGETS[method.penalty]
    network, config = inputs.trained.network.load(), bench.config
    if method.normalised:
        normalise_filters(network, bench.job.layout)
    module = Sparsify(
        network,
        target(network, plan),
        steps=schedule.steps,
        rates=Rates(schedule.lr, schedule.gate_lr),
        growth=Growth(schedule.growth, schedule.growth_interval, schedule.maximum),
        teacher=None
        if inputs.teacher is None
        else Teacher(
            inputs.teacher.network.load(),
            config.tf_weight if method.tf_in_sparsify else 0.0,
            output_weight=0.0,
            unlabelled_weight=config.data.weight_without_truth,
        ),
    )
    saved = bench.train(module, bench.config.pruning_seed)
    return Sparsified(saved, Gates(**cut_summary(target(module.network, plan).magnitudes(module.network))))
