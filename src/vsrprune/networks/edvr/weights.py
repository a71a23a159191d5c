"""BasicSR's names of EDVR's weights."""

from __future__ import annotations

from collections.abc import Iterator

from vsrprune.networks.edvr.spec import LEVELS, EDVRArguments
from vsrprune.networks.parts.published import SPYNET_CONSTANTS, PublishedNames, tensors


def published(arguments: EDVRArguments) -> dict[str, PublishedNames]:
    """Who has published weights, and by which names."""
    return {"BasicSR": PublishedNames(basicsr_names(arguments), SPYNET_CONSTANTS)}


def basicsr_names(arguments: EDVRArguments) -> dict[str, str]:
    """Every tensor of the network: its name in BasicSR's EDVR -> its name here."""
    return tensors(_modules(arguments))


def _modules(arguments: EDVRArguments) -> Iterator[tuple[str, str]]:
    """Their and our names of all convolutions; they differ at the deformable ones alone."""
    for name in _shared_names(arguments):
        yield name, name
    packs = [f"pcd_align.dcn_pack.l{level}" for level in LEVELS]
    for pack in (*packs, "pcd_align.cas_dcnpack"):
        yield f"{pack}.conv_offset", f"{pack}.conv_offset"
        yield pack, f"{pack}.deform"


def _shared_names(arguments: EDVRArguments) -> Iterator[str]:
    yield "conv_first"
    yield from _blocks("feature_extraction", arguments.extract_blocks)
    yield from (f"conv_l{level}_{place}" for level in (2, 3) for place in (1, 2))
    for level in LEVELS:
        coarsest = level == LEVELS[-1]
        kinds = ("offset_conv1", "offset_conv2") if coarsest else (*_OFFSET_CONVS, "feat_conv")
        yield from (f"pcd_align.{kind}.l{level}" for kind in kinds)
    yield from ("pcd_align.cas_offset_conv1", "pcd_align.cas_offset_conv2")
    yield from (f"fusion.{name}" for name in _FUSION)
    yield from _blocks("reconstruction", arguments.reconstruction_blocks)
    yield from (f"upconv{index}" for index in range(1, len(arguments.upscale_factors) + 1))
    yield from ("conv_hr", "conv_last")


def _blocks(name: str, count: int) -> Iterator[str]:
    yield from (f"{name}.{block}.{conv}" for block in range(count) for conv in ("conv1", "conv2"))


_OFFSET_CONVS = ("offset_conv1", "offset_conv2", "offset_conv3")
_FUSION = (
    *("temporal_attn1", "temporal_attn2", "feat_fusion"),
    *(f"spatial_attn{index}" for index in range(1, 6)),
    *(f"spatial_attn_l{level}" for level in LEVELS),
    *("spatial_attn_add1", "spatial_attn_add2"),
)
