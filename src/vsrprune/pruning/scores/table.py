"""All scores by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from vsrprune.channels.layout import ChannelLayout
from vsrprune.errors import one_of
from vsrprune.pruning.gates import PrunableNetwork
from vsrprune.pruning.scores.activations import activation_scores
from vsrprune.pruning.scores.batches import Batch
from vsrprune.pruning.scores.gradients import fisher_scores, output_scores, taylor_scores
from vsrprune.pruning.scores.weights import (
    fpgm_scores,
    gate_scores,
    l1_first_scores,
    l1_scores,
    l2_scores,
    lamp_scores,
    random_scores,
)
from vsrprune.selection.scores import NAMES, OF_BATCHES, RANDOM, Scores

# By what they read, which is what the key of a score depends on: the names are those of selection/scores.py.
WEIGHTS: Mapping[str, Callable[[PrunableNetwork, ChannelLayout], Scores]] = {
    "l1": l1_scores,
    "l1_first": l1_first_scores,
    "l2": l2_scores,
    "gate": gate_scores,
    "fpgm": fpgm_scores,
    "lamp": lamp_scores,
}
BATCHES: Mapping[str, Callable[[PrunableNetwork, ChannelLayout, Iterable[Batch]], Scores]] = {
    "taylor": taylor_scores,
    "fisher": fisher_scores,
    "activation": activation_scores,
}
# Those that can do without the truth, and what they are there: the batches' high_NTCHW has no clips.
WITHOUT_TRUTH: Mapping[str, Callable[[PrunableNetwork, ChannelLayout, Iterable[Batch]], Scores]] = {
    "taylor": output_scores,
    "activation": activation_scores,
}
SCORES = (*WEIGHTS, *BATCHES, RANDOM)


def score_units(
    network: PrunableNetwork,
    layout: ChannelLayout,
    score: str,
    seed: int = 0,
    batches: Iterable[Batch] = (),
    truth: bool = True,
) -> Scores:
    """Scores of all units by group, finite and not negative, higher is more important; `score` is one of SCORES.

    seed: of the random score. batches: what scores of data are computed on. truth: whether these have one; without it
    taylor is another function. Raises ValueError where they need a batch, and get none; UserError where a score ranks
    nothing.
    """
    one_of("score", score, NAMES)
    if score == RANDOM:
        return random_scores(layout, seed)
    if score in OF_BATCHES:
        return (BATCHES if truth else WITHOUT_TRUTH)[score](network, layout, batches)
    return WEIGHTS[score](network, layout)
