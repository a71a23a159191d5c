"""Knowledge distillation: the lite network, taught by the dense one.

A loss of weight method.output_weight holds its outputs to those of the dense network, and one of weight tf_weight its
hidden states. A 1x1 convolution per branch brings the states to the width of the dense ones; it is thrown away
afterwards.
"""

from dataclasses import replace

from vsrprune.methods import lite

METHOD = replace(lite.METHOD, name="distill")
