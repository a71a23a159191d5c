"""BasicSR's and mmagic's names of EDVR's weights."""

from __future__ import annotations

from collections.abc import Iterator

from vsrprune.networks.edvr.spec import LEVELS, EDVRArguments
from vsrprune.networks.parts.published import SPYNET_CONSTANTS, PublishedNames, tensors
from vsrprune.networks.parts.upsamplers.table import of_published_upsampler

Names = tuple[str, str, str]  # of a convolution: BasicSR's, mmagic's, ours

_OFFSET_CONVS = ("offset_conv1", "offset_conv2", "offset_conv3")
# Of the fusion. mmagic's convolutions with an activation behind them are `conv` in a module of both.
_ACTIVATED = (
    "feat_fusion",
    *(f"spatial_attn{index}" for index in range(1, 5)),
    *(f"spatial_attn_l{level}" for level in LEVELS),
    "spatial_attn_add1",
)
_PLAIN = ("temporal_attn1", "temporal_attn2", "spatial_attn5", "spatial_attn_add2")


def published(arguments: EDVRArguments) -> dict[str, PublishedNames]:
    """Who has published weights, and by which names."""
    mmagic = tensors((theirs, ours) for _, theirs, ours in _modules(arguments))
    names = {
        "BasicSR": PublishedNames(basicsr_names(arguments), SPYNET_CONSTANTS),
        "mmagic": PublishedNames(mmagic),
    }
    return of_published_upsampler(names, arguments)


def basicsr_names(arguments: EDVRArguments) -> dict[str, str]:
    """Every tensor of the network: its name in BasicSR's EDVR -> its name here."""
    return tensors((theirs, ours) for theirs, _, ours in _modules(arguments))


def _modules(arguments: EDVRArguments) -> Iterator[Names]:
    """The names of all convolutions."""
    yield from _same("conv_first")
    yield from _blocks("feature_extraction", arguments.extract_blocks)
    for level in LEVELS[1:]:
        for place in (1, 2):
            yield f"conv_l{level}_{place}", f"feat_l{level}_conv{place}.conv", f"conv_l{level}_{place}"
    yield from _alignment()
    for name in _ACTIVATED:
        yield f"fusion.{name}", f"fusion.{name}.conv", f"fusion.{name}"
    yield from _same(*(f"fusion.{name}" for name in _PLAIN))
    yield from _blocks("reconstruction", arguments.reconstruction_blocks)
    for index in range(1, len(arguments.upscale_factors) + 1):
        yield f"upconv{index}", f"upsample{index}.upsample_conv", f"upconv{index}"
    yield from _same("conv_hr", "conv_last")


def _alignment() -> Iterator[Names]:
    convs = ["cas_offset_conv1", "cas_offset_conv2"]
    for level in LEVELS:
        kinds = ("offset_conv1", "offset_conv2") if level == LEVELS[-1] else (*_OFFSET_CONVS, "feat_conv")
        convs += [f"{kind}.l{level}" for kind in kinds]
    for name in convs:
        yield f"pcd_align.{name}", f"pcd_alignment.{name}.conv", f"pcd_align.{name}"
    for pack in (*(f"dcn_pack.l{level}" for level in LEVELS), "cas_dcnpack"):
        ours = f"pcd_align.{pack}"
        yield f"{ours}.conv_offset", f"pcd_alignment.{pack}.conv_offset", f"{ours}.conv_offset"
        yield ours, f"pcd_alignment.{pack}", f"{ours}.deform"


def _blocks(name: str, count: int) -> Iterator[Names]:
    yield from _same(*(f"{name}.{block}.{conv}" for block in range(count) for conv in ("conv1", "conv2")))


def _same(*names: str) -> Iterator[Names]:
    yield from ((name, name, name) for name in names)
