"""Structure-Regularized Pruning (Zhang et al., ICLR 2022).

Filters are picked once by mean |w|, the same share of every layer; layers that add to one residual stream lose the
channels that the first of them loses. A growing L2 penalty on the weights and biases of the picked filters themselves
hands what they know over to the rest before they are cut. Under rsc the inputs that a block drops are cut as they are:
they are no filters.
"""

from vsrprune.methods.method import Method

METHOD = Method("srp")
