"""SSL whose fine-tuning holds both hidden states (tf_weight) and outputs (method.output_weight) to the dense ones."""

from dataclasses import replace

from vsrprune.methods import ssl

METHOD = replace(ssl.METHOD, name="ssl_distill")
