"""How projects name the parts of BasicVSR and SPyNet in their checkpoints: one table per layout.

A name is a template of a module: {branch} is backward or forward, {block} a residual block with its conv1 and conv2,
{index} counts the pixel shuffles from 1. In SPyNet {level} counts from the coarsest, {conv} counts the convolutions of
a level and {layer} counts its activations too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vsrprune.networks.basicvsr.spec import BasicVSRArguments, trunk
from vsrprune.networks.parts.published import PublishedNames, finest_names, flow_tensors
from vsrprune.networks.parts.upsamplers.table import of_published_upsampler


@dataclass(frozen=True)
class Layout:
    """Names of modules, of a gate's and an input gate's tensor, and of tensors that are no weights."""

    first: str
    block: str
    upconv: str
    flow: str
    gate: str = ""
    input_gate: str = ""
    constants: tuple[str, ...] = ()


BASICSR = Layout(
    first="{branch}_trunk.main.0",
    block="{branch}_trunk.main.2.{block}",
    upconv="upconv{index}",
    flow="spynet.basic_module.{level}.basic_module.{layer}",
    constants=("spynet.mean", "spynet.std"),
)
MMAGIC = Layout(
    first="{branch}_resblocks.main.0",
    block="{branch}_resblocks.main.2.{block}",
    upconv="upsample{index}.upsample_conv",
    flow="spynet.basic_module.{level}.basic_module.{conv}.conv",
    constants=("spynet.mean", "spynet.std", "steps"),
)
LAYOUTS = {
    "vsrprune": Layout(
        first="{branch}_trunk.first",
        block="{branch}_trunk.blocks.{block}",
        upconv="upconv{index}",
        flow="flow_net.levels.{level}.{layer}",
        gate="gate",
        input_gate="input_gate",
    ),
    "BasicSR": BASICSR,
    # The released code of arXiv 2206.07687; its gates are shaped (1, C, 1, 1), and the first convolutions have none.
    "SSL": replace(BASICSR, gate="act_scale", input_gate="act_scale_pre"),
    "mmagic": MMAGIC,
}


PUBLISHED_CELL = "residual"


def published(arguments: BasicVSRArguments) -> dict[str, PublishedNames]:
    """Who has published weights, and by which names."""
    others = {name: layout for name, layout in LAYOUTS.items() if name != "vsrprune"}
    finest = (arguments.flow_levels, arguments.flow_skipped, len(arguments.flow_widths) + 1)
    names = {
        name: PublishedNames(tensor_names(layout, arguments), (*layout.constants, *finest_names(layout.flow, *finest)))
        for name, layout in others.items()
    }
    if arguments.slope != 0:
        slope = (
            f"SSL's released networks have ReLU outside their blocks, and model.slope is {arguments.slope:g}; add"
            " model.slope=0"
        )
        names["SSL"] = replace(names["SSL"], refusal=slope)
    names = of_published_upsampler(names, arguments)
    if arguments.cell != PUBLISHED_CELL:
        cell = (
            f"published weights are of model.cell={PUBLISHED_CELL}, and model.cell is {arguments.cell}; leave out the"
            " cell or these weights"
        )
        names = {name: replace(project, refusal=cell) for name, project in names.items()}
    return names


def tensor_names(layout: Layout, arguments: BasicVSRArguments) -> dict[str, str]:
    """Every tensor of a dense network: its name in the layout -> its name here, the gates that the layout has too."""
    levels, convs = arguments.flow_levels - arguments.flow_skipped, len(arguments.flow_widths) + 1
    names = flow_tensors(layout.flow, LAYOUTS["vsrprune"].flow, levels, convs)
    for theirs, ours in _gated_convs(layout, arguments):
        names |= {f"{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")}
        if layout.gate:
            names[f"{theirs}.{layout.gate}"] = f"{ours}.gate"
    if layout.input_gate:
        for theirs, ours in _blocks(layout, arguments):
            names[f"{theirs}.conv1.{layout.input_gate}"] = f"{ours}.conv1.input_gate"
    return names | {f"conv_last.{kind}": f"conv_last.{kind}" for kind in ("weight", "bias")}


def _gated_convs(layout: Layout, arguments: BasicVSRArguments) -> Iterator[tuple[str, str]]:
    """Their and our names of the convolutions that carry gates here."""
    for branch in arguments.branches:
        yield layout.first.format(branch=branch), f"{trunk(branch)}.first"
    for theirs, ours in _blocks(layout, arguments):
        for conv in ("conv1", "conv2"):
            yield f"{theirs}.{conv}", f"{ours}.{conv}"
    if arguments.bidirectional:
        yield "fusion", "fusion"
    for index in range(1, len(arguments.upscale_factors) + 1):
        yield layout.upconv.format(index=index), f"upconv{index}"
    yield "conv_hr", "conv_hr"


def _blocks(layout: Layout, arguments: BasicVSRArguments) -> Iterator[tuple[str, str]]:
    for branch in arguments.branches:
        for block in range(arguments.blocks):
            yield layout.block.format(branch=branch, block=block), f"{trunk(branch)}.blocks.{block}"
