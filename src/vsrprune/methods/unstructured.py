"""Magnitude pruning of single weights (Han et al., NIPS 2015): a bound on the accuracy at this many weights.

The smallest weights become zeros, wherever they stand, and stay zeros while the rest is fine-tuned. MACs and parameters
count the others; a dense convolution computes zeros too, so the time is that of the dense network.
"""

from vsrprune.methods.method import Method

# target=units is left out: single weights are no units.
METHOD = Method(
    "unstructured",
    plan="whole",
    start="masked",
    requires={"target": ("macs", "params"), "round_to": (1,), "scope": ("global",)},
)
