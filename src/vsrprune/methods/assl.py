"""Aligned Structured Sparsity Learning (Zhang et al., NeurIPS 2021).

Filters are normalised, w_i = s_i W_i / |W_i|, and |s_i| is their score. The layers that add to one residual stream must
lose the same channels, so first their soft masks sigmoid(s - threshold) are trained to agree (a loss of minus the mean
of M M^T); then the same share of every layer is picked, and a growing L2 penalty on s drives it to zero.

Here a gate multiplies the bias too, so the bias goes with its s and needs no penalty of its own; and a unit of the
stream holds the input gates of its readers, which go with it. Under rsc and inner no layers share what they lose, and
the stage of alignment only trains on; with a ranking over all layers it aligns the same share of every layer all the
same.
"""

from vsrprune.methods.method import Method

METHOD = Method("assl")
