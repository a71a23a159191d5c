"""BasicSR's and mmagic's names of BasicVSR++'s weights."""

from __future__ import annotations

from collections.abc import Iterator

from vsrprune.networks.basicvsr.weights import MMAGIC
from vsrprune.networks.basicvsr_pp.spec import OFFSET_CONVS, BasicVSRPPArguments
from vsrprune.networks.parts.published import SPYNET_CONSTANTS, PublishedNames, finest_names, flow_tensors, tensors
from vsrprune.networks.parts.upsamplers.table import of_published_upsampler

FLOW = "flow_net.levels.{level}.{layer}"
BASICSR_FLOW = "spynet.basic_module.{level}.basic_module.{layer}"


def published(arguments: BasicVSRPPArguments) -> dict[str, PublishedNames]:
    """Who has published weights, and by which names."""
    finest = (arguments.flow_levels, arguments.flow_skipped, len(arguments.flow_widths) + 1)
    names = {
        "BasicSR": PublishedNames(basicsr_names(arguments), SPYNET_CONSTANTS + finest_names(BASICSR_FLOW, *finest)),
        "mmagic": PublishedNames(
            _names(arguments, MMAGIC.flow, MMAGIC.upconv), MMAGIC.constants + finest_names(MMAGIC.flow, *finest)
        ),
    }
    return of_published_upsampler(names, arguments)


def basicsr_names(arguments: BasicVSRPPArguments) -> dict[str, str]:
    """Every tensor of the network: its name in BasicSR's BasicVSRPlusPlus -> its name here.

    Their files hold two more, `spynet.mean` and `spynet.std`, which are constants.
    """
    return _names(arguments, BASICSR_FLOW, "upconv{index}")


def _names(arguments: BasicVSRPPArguments, flow: str, upconv: str) -> dict[str, str]:
    """Projects differ in the names of the flow net and of the pixel shuffles alone."""
    levels, convs = arguments.flow_levels - arguments.flow_skipped, len(arguments.flow_widths) + 1
    shuffles = [
        (upconv.format(index=index), f"upconv{index}") for index in range(1, len(arguments.upscale_factors) + 1)
    ]
    return flow_tensors(flow, FLOW, levels, convs) | tensors([*_modules(arguments), *shuffles])


def _modules(arguments: BasicVSRPPArguments) -> Iterator[tuple[str, str]]:
    """Their and our names of the convolutions outside the flow net, but for the pixel shuffles."""
    yield from _trunk("feat_extract", arguments.extract_blocks)
    for branch in arguments.branches:
        name = f"deform_align.{branch}"
        yield from ((f"{name}.conv_offset.{place}",) * 2 for place in OFFSET_CONVS)
        yield name, f"{name}.deform"
    for branch in arguments.branches:
        yield from _trunk(f"backbone.{branch}", arguments.blocks)
    yield from _trunk("reconstruction", arguments.reconstruction_blocks)
    yield from ((name, name) for name in ("conv_hr", "conv_last"))


def _trunk(name: str, blocks: int) -> Iterator[tuple[str, str]]:
    yield f"{name}.main.0", f"{name}.first"
    for block in range(blocks):
        for conv in ("conv1", "conv2"):
            yield f"{name}.main.2.{block}.{conv}", f"{name}.blocks.{block}.{conv}"
