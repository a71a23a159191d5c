"""Knowledge distillation: the lite network, taught by the dense one.

Its outputs follow the dense network's (method.output_weight), and its hidden states do (tf_weight), through a 1x1
convolution per branch from its width to theirs, which is thrown away afterwards.
"""

from dataclasses import replace

from vsrprune.methods import lite

METHOD = replace(lite.METHOD, name="distill")
