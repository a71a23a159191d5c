"""The group `method`: how units are chosen, and how the cut is prepared."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.knobs import knob
from vsrprune.methods.table import METHODS


@dataclass
class MethodConfig:
    """A pruning method of vsrprune.methods; the knobs that it implies stand in its file in conf/method."""

    name: str = knob("ssl", "The method.", choices=tuple(METHODS))
    sparsify: bool = knob(True, "Drive the units to be cut to zero first; false: one shot.")
    output_weight: float = knob(
        0.0,
        "The weight of the loss that holds outputs to the dense network's while the pruned one is fine-tuned.",
        at_least=0,
    )
