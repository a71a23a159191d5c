"""Structured Sparsity Learning (Xia et al., CVPR 2023, arXiv 2206.07687).

Units are ranked over all layers at once and picked once; a growing penalty drives their gates to zero; the residual
stream keeps its channels (rsc); after the cut the hidden states are held to those of the dense network (tf_weight).
"""

from vsrprune.methods.method import Method

METHOD = Method("ssl")
