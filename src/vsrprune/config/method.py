"""The group `method`: a method's name, and how it prepares the cut."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.knobs import knob
from vsrprune.methods.table import METHODS


@dataclass
class MethodConfig:
    """A pruning method of vsrprune.methods. Its file in conf/method sets knobs, each of which can be set otherwise."""

    name: str = knob("ssl", "The method.", choices=tuple(METHODS))
    sparsify: bool = knob(True, "Drive the units to be cut to zero first; false: one shot.")
    penalty: str = knob(
        "gates",
        "What sparsify drives to zero of the units to be cut: their gates, or the weights and biases of their filters.",
        choices=("gates", "filters"),
    )
    normalised: bool = knob(
        False, "Filters have unit norm while align and sparsify train, so that a gate alone says what a filter weighs."
    )
    align: bool = knob(
        False, "Before the score, train the gates of layers that share channels to agree on which to keep."
    )
    output_weight: float = knob(
        0.0,
        "The weight of the loss that holds outputs to the teacher's while the pruned network is fine-tuned.",
        at_least=0,
    )
    teacher: str = knob(
        "dense",
        "Whom fine-tuning follows, in hidden states (tf_weight) and outputs (output_weight): the dense network, or the"
        " one that sparsify left, whose units were not cut yet.",
        choices=("dense", "sparsified"),
    )
    tf_in_sparsify: bool = knob(
        False, "The Temporal Finetuning loss, of weight tf_weight and against the dense network, in sparsify too."
    )
