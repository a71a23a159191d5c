"""SSL whose fine-tuning follows the dense network's outputs (method.output_weight) beside its hidden states."""

from dataclasses import replace

from vsrprune.methods import ssl

METHOD = replace(ssl.METHOD, name="ssl_distill")
