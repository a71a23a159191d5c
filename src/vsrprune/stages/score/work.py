"""Score the units of a network."""

from __future__ import annotations

from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.scoring import score_units
from vsrprune.stages.bench import Bench
from vsrprune.stages.score.recipe import Inputs
from vsrprune.stages.score.scores import Scores


def make(bench: Bench, inputs: Inputs) -> Scores:
    """The importance of every unit."""
    network = inputs.trained.network.load()
    if inputs.selection is not None:  # units that the round before cut: they score nothing, and stay cut
        zero_cut_gates(network, inputs.selection.plan)
    return Scores(score_units(network, bench.job.layout, bench.config.score, bench.config.pruning_seed))
