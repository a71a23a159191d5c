"""Score the units of a network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vsrprune.data.sampling import Batch, PatchDataset, Patches, StepSampler, patch_loader
from vsrprune.networks.network import Network
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.scores.table import score_units
from vsrprune.selection.scores import Scores as Values
from vsrprune.selection.scores import is_own, reads_batches
from vsrprune.stages.bench import Bench
from vsrprune.stages.score.own import own_score
from vsrprune.stages.score.recipe import Inputs
from vsrprune.stages.score.scores import Scores
from vsrprune.stages.score.trial import scores_of

SEEDS = 2**63  # there are so many of trainings: batches for scores are drawn by other ones


def make(bench: Bench, inputs: Inputs) -> Scores:
    """The importance of every unit."""
    network = inputs.trained.network.load()
    if inputs.selection is None:
        return Scores(_values(bench, network))
    # Units that the round before cut score nothing, whatever the score makes of their zeros, and stay cut.
    plan = inputs.selection.plan
    zero_cut_gates(network, plan)
    return Scores(
        {
            name: np.where(np.isin(np.arange(len(values)), plan.cut(name)), 0.0, values)
            for name, values in _values(bench, network).items()
        }
    )


def _values(bench: Bench, network: Network) -> Values:
    config, layout = bench.config, bench.job.layout
    reads = reads_batches(config.score, config.score_batches)
    if reads:
        network = network.to(bench.device)
        network.checkpoint_frames = config.trainer.checkpoint_frames
    batches = _batches(bench) if reads else iter(())
    if is_own(config.score):
        own = own_score(config.score)
        own.check_unchanged(bench.plan.settings["facts.score"])
        return scores_of(own, network, layout, batches if reads else None)
    truth = config.data.truth != "none"
    return score_units(network, layout, config.score, config.pruning_seed, batches, truth)


def _batches(bench: Bench) -> Iterator[Batch]:
    """Training batches on the device."""
    config, schedule = bench.config, bench.config.schedule
    patches = PatchDataset(
        bench.clips.train,
        schedule.frames,
        schedule.patch,
        bench.job.arguments.scale,
        SEEDS + config.pruning_seed,
        config.data.mirror,
    )
    for batch in patch_loader(patches, StepSampler(config.score_batches, schedule.batch), workers=0):
        bench.give_way()
        yield Patches(*(part.to(bench.device) for part in batch)).floats()
