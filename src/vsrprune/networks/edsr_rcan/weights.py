"""BasicSR's names of EDSR's and RCAN's weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vsrprune.networks.edsr_rcan.spec import EDSRArguments, RCANArguments
from vsrprune.networks.parts.published import SPYNET_CONSTANTS, PublishedNames, tensors


def published_edsr(arguments: EDSRArguments) -> dict[str, PublishedNames]:
    """Who has published weights of EDSR, and by which names."""
    return {"BasicSR": PublishedNames(edsr_names(arguments), SPYNET_CONSTANTS)}


def published_rcan(arguments: RCANArguments) -> dict[str, PublishedNames]:
    """Who has published weights of RCAN, and by which names."""
    return {"BasicSR": PublishedNames(rcan_names(arguments), SPYNET_CONSTANTS)}


def edsr_names(arguments: EDSRArguments) -> dict[str, str]:
    """Every tensor of EDSR: its name in BasicSR -> its name here."""
    blocks = [f"body.{block}.{conv}" for block in range(arguments.blocks) for conv in ("conv1", "conv2")]
    modules = [(name, name) for name in ("conv_first", *blocks)]
    return tensors([*modules, *_last_modules(arguments.upscale_factors)])


def rcan_names(arguments: RCANArguments) -> dict[str, str]:
    """Every tensor of RCAN: its name in BasicSR -> its name here."""
    modules = [("conv_first", "conv_first")]
    inside = {"0": "conv1", "2": "conv2", "3.attention.1": "squeeze", "3.attention.3": "excite"}
    for group in range(arguments.groups):
        for block in range(arguments.blocks):
            theirs, ours = f"body.{group}.residual_group.{block}.rcab", f"body.{group}.blocks.{block}"
            modules += [(f"{theirs}.{place}", f"{ours}.{name}") for place, name in inside.items()]
        modules.append((f"body.{group}.conv",) * 2)
    return tensors([*modules, *_last_modules(arguments.upscale_factors)])


def _last_modules(factors: Sequence[int]) -> Iterator[tuple[str, str]]:
    yield "conv_after_body", "conv_after_body"
    yield from ((f"upsample.{2 * index}", f"upconv{index + 1}") for index in range(len(factors)))
    yield "conv_last", "conv_last"
