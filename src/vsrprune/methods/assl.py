"""Aligned Structured Sparsity Learning (Zhang et al., NeurIPS 2021).

Filters are normalised, w_i = s_i W_i / |W_i|, and |s_i| is their score. The layers that add to one residual stream must
lose the same channels, so first their soft masks sigmoid(s - threshold) are trained to agree (a loss of minus the mean
of M M^T); then the same share of every layer is picked, and a growing L2 penalty on s drives it to zero.

Here a gate multiplies the bias too, so the bias goes with its s and needs no penalty of its own; and a unit of the
stream holds the input gates of its readers, which go with it.
"""

from vsrprune.methods.method import Method

# As published: the same share of every layer (local), and the layers of a stream together (aligned).
METHOD = Method(
    "assl",
    normalised=True,
    aligned_first=True,
    requires={"rule": ("aligned",), "scope": ("local",), "score": ("gate",)},
)
