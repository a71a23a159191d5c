"""BasicSR's names of BasicVSR++'s weights."""

from __future__ import annotations

from collections.abc import Iterator

from vsrprune.networks.basicvsr_pp.spec import OFFSET_CONVS, BasicVSRPPArguments
from vsrprune.networks.parts.published import SPYNET_CONSTANTS, PublishedNames, tensors


def published(arguments: BasicVSRPPArguments) -> dict[str, PublishedNames]:
    """Who has published weights, and by which names."""
    return {"BasicSR": PublishedNames(basicsr_names(arguments), SPYNET_CONSTANTS)}


def basicsr_names(arguments: BasicVSRPPArguments) -> dict[str, str]:
    """Every tensor of the network: its name in BasicSR's BasicVSRPlusPlus -> its name here.

    Their files hold two more, `spynet.mean` and `spynet.std`, which are constants.
    """
    return tensors(_modules(arguments))


def _modules(arguments: BasicVSRPPArguments) -> Iterator[tuple[str, str]]:
    """Their and our names of all convolutions."""
    for level in range(arguments.flow_levels):
        for layer in range(0, 2 * len(arguments.flow_widths) + 1, 2):  # activations lie between
            yield f"spynet.basic_module.{level}.basic_module.{layer}", f"flow_net.levels.{level}.{layer}"
    yield from _trunk("feat_extract", arguments.extract_blocks)
    for branch in arguments.branches:
        name = f"deform_align.{branch}"
        yield from ((f"{name}.conv_offset.{place}",) * 2 for place in OFFSET_CONVS)
        yield name, f"{name}.deform"
    for branch in arguments.branches:
        yield from _trunk(f"backbone.{branch}", arguments.blocks)
    yield from _trunk("reconstruction", arguments.reconstruction_blocks)
    upconvs = (f"upconv{index}" for index in range(1, len(arguments.upscale_factors) + 1))
    yield from ((name, name) for name in (*upconvs, "conv_hr", "conv_last"))


def _trunk(name: str, blocks: int) -> Iterator[tuple[str, str]]:
    yield f"{name}.main.0", f"{name}.first"
    for block in range(blocks):
        for conv in ("conv1", "conv2"):
            yield f"{name}.main.2.{block}.{conv}", f"{name}.blocks.{block}.{conv}"
