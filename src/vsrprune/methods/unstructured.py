"""Magnitude pruning of single weights (Han et al., NIPS 2015), in one shot.

The smallest weights of all convolutions together become zeros, wherever they stand, and stay zeros while the rest is
fine-tuned. It is no bound on what can be kept at so many weights: a ranking within layers, or zeros that come step by
step, may keep more. MACs and parameters
count the others; a dense convolution computes zeros too, so the time is that of the dense network.
"""

from vsrprune.methods.method import Method

# target=units is left out: single weights are no units.
METHOD = Method(
    "unstructured",
    plan="masked",
    start="masked",
    requires={"target": ("macs", "params"), "round_to": (1,), "scope": ("global",)},
)
