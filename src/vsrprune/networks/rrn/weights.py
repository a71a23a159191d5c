"""The names of RRN's released weights."""

from __future__ import annotations

from vsrprune.networks.parts.published import SPYNET_CONSTANTS, PublishedNames, tensors
from vsrprune.networks.rrn.spec import RRNArguments


def published(arguments: RRNArguments) -> dict[str, PublishedNames]:
    """Who has published weights, and by which names."""
    return {"RRN": PublishedNames(released_names(arguments), SPYNET_CONSTANTS)}


def released_names(arguments: RRNArguments) -> dict[str, str]:
    """Every tensor of the network: its name in the authors' released code -> its name here."""
    blocks = [f"recon_trunk.{block}.{conv}" for block in range(arguments.blocks) for conv in ("conv1", "conv2")]
    modules = ("conv_1", *blocks, "conv_h", "conv_o")
    return tensors((f"neuro.{name}", name) for name in modules)
