"""EDVR's arguments and BasicSR's names of its weights, without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from vsrprune.channels import ChannelLayout, Slot
from vsrprune.errors import UserError
from vsrprune.models.argument_checks import check_counts, check_deformable_groups, check_slope, check_upscale_factors
from vsrprune.models.basicvsr_channels import upsample
from vsrprune.specification import RGB, Specification

LEVELS = (1, 2, 3)  # of the feature pyramid; level n has 1/2**(n-1) of the side


@dataclass(frozen=True)
class EDVRArguments:
    """Everything that shapes an EDVR network (Wang et al., CVPRW 2019). Defaults are the published EDVR-M.

    channels: width of the features on every level.
    window: frames that one output frame is restored from, centred on it; odd.
    deformable_groups: of every deformable convolution.
    extract_blocks, reconstruction_blocks: residual blocks before the alignment and after the fusion.
    upsampler_channels: width after the last pixel shuffle and of conv_hr.
    upscale_factors: one pixel shuffle each; their product is the network's scale. None keeps the size of the input.
    slope: negative slope of the activations outside the residual blocks.
    """

    channels: int = 64
    window: int = 5
    deformable_groups: int = 8
    extract_blocks: int = 5
    reconstruction_blocks: int = 10
    upsampler_channels: int = 64
    upscale_factors: tuple[int, ...] = (2, 2)
    slope: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "upscale_factors", tuple(self.upscale_factors))
        check_counts(self, "channels", "window", "deformable_groups", "extract_blocks", "reconstruction_blocks")
        check_counts(self, "upsampler_channels")
        check_upscale_factors(self.upscale_factors)
        check_slope(self.slope)
        if self.window % 2 == 0:
            raise UserError(f"model.window must be odd; got {self.window}")
        check_deformable_groups(self.deformable_groups, self.channels, "model.channels")

    @property
    def scale(self) -> int:
        """Side of the output relative to the input."""
        return math.prod(self.upscale_factors)

    @property
    def branches(self) -> tuple[str, ...]:
        """Propagation branches: there are none."""
        return ()


def edvr_layout(arguments: EDVRArguments, rule: str) -> ChannelLayout:
    """Groups and convolutions of EDVR under a residual rule.

    Residual blocks and the upsampler are cut. Alignment (PCD) and attention (TSA) are not, except where the streams
    pass through them: what makes offsets and weights is small, and wrong offsets cost more than channels.
    """
    spec, channels = Specification(rule), arguments.channels
    whole, part = Slot(channels), "features"
    features = spec.stream("feature_extraction", channels, part=part, writers=["conv_first"])
    spec.conv("conv_first", 3, [RGB], features)
    for block in range(arguments.extract_blocks):
        spec.block(f"feature_extraction.{block}", "feature_extraction", part=part)
    for level, read in ((2, features), (3, whole)):
        side = 1 / 2 ** (level - 1)
        spec.conv(f"conv_l{level}_1", 3, [read], whole, scale=side)
        spec.conv(f"conv_l{level}_2", 3, [whole], whole, scale=side)
    _state_alignment(spec, arguments, features)
    _state_fusion(spec, arguments)
    stream = spec.stream("reconstruction", channels, part="reconstruction", writers=FUSED)
    _state_places(spec, arguments, stream)
    for block in range(arguments.reconstruction_blocks):
        spec.block(f"reconstruction.{block}", "reconstruction", part="reconstruction")
    upsample(spec, stream, channels, arguments.upsampler_channels, arguments.upscale_factors)
    return spec.layout()


# What the reconstruction's stream starts from: fused features times attention, plus what attention adds.
FUSED = ("fusion.feat_fusion", "fusion.spatial_attn5", "fusion.spatial_attn_add2")


def _state_alignment(spec: Specification, arguments: EDVRArguments, features: Slot) -> None:
    """PCD, which runs once for every frame of a window."""
    times, whole = arguments.window, Slot(arguments.channels)
    offsets = Slot(3 * arguments.deformable_groups * 3**2)
    for level in reversed(LEVELS):
        read = features if level == LEVELS[0] else whole
        side, coarsest = 1 / 2 ** (level - 1), level == LEVELS[-1]
        guides = [whole] if coarsest else [whole, whole]
        pack = f"pcd_align.dcn_pack.l{level}"
        for name, inputs, output in (
            (f"pcd_align.offset_conv1.l{level}", [read, read], whole),
            (f"pcd_align.offset_conv2.l{level}", guides, whole),
            *(() if coarsest else ((f"pcd_align.offset_conv3.l{level}", [whole], whole),)),
            (f"{pack}.conv_offset", [whole], offsets),
            (f"{pack}.deform", [read], whole),
            *(() if coarsest else ((f"pcd_align.feat_conv.l{level}", [whole, whole], whole),)),
        ):
            spec.conv(name, 3, inputs, output, scale=side, times=times)
    spec.conv("pcd_align.cas_offset_conv1", 3, [whole, features], whole, times=times)
    spec.conv("pcd_align.cas_offset_conv2", 3, [whole], whole, times=times)
    spec.conv("pcd_align.cas_dcnpack.conv_offset", 3, [whole], offsets, times=times)
    spec.conv("pcd_align.cas_dcnpack.deform", 3, [whole], whole, times=times)


def _state_fusion(spec: Specification, arguments: EDVRArguments) -> None:
    """TSA up to the attention over places, at half and a quarter of the side."""
    whole, window = Slot(arguments.channels), [Slot(arguments.channels)] * arguments.window
    both = [whole, whole]
    spec.conv("fusion.temporal_attn1", 3, [whole], whole)
    spec.conv("fusion.temporal_attn2", 3, [whole], whole, times=arguments.window)
    spec.conv("fusion.spatial_attn1", 1, window, whole)
    spec.conv("fusion.spatial_attn2", 1, both, whole, scale=1 / 2)
    spec.conv("fusion.spatial_attn3", 3, [whole], whole, scale=1 / 2)
    spec.conv("fusion.spatial_attn4", 1, [whole], whole, scale=1 / 2)
    spec.conv("fusion.spatial_attn_l1", 1, [whole], whole, scale=1 / 2)
    spec.conv("fusion.spatial_attn_l2", 3, both, whole, scale=1 / 4)
    spec.conv("fusion.spatial_attn_l3", 3, [whole], whole, scale=1 / 4)


def _state_places(spec: Specification, arguments: EDVRArguments, stream: Slot) -> None:
    """The end of TSA, whose output is the stream of the reconstruction."""
    whole, window = Slot(arguments.channels), [Slot(arguments.channels)] * arguments.window
    spec.conv("fusion.feat_fusion", 1, window, stream)
    spec.conv("fusion.spatial_attn5", 3, [whole], stream)
    spec.conv("fusion.spatial_attn_add1", 1, [stream], whole)
    spec.conv("fusion.spatial_attn_add2", 1, [whole], stream)


def window_indices(center: int, length: int, window: int) -> list[int]:
    """The frames of a window in a clip of so many frames, mirrored at its ends without repeating the end frame.

    BasicSR's padding `reflection`: 2, 1, 0, 1, 2 around frame 0 (its tests of EDVR choose `reflection_circle`, 4, 3,
    0, 1, 2, which clips shorter than the window do not have). Short clips are mirrored again until an index fits.
    """
    period = max(2 * (length - 1), 1)
    places = [place % period for place in range(center - window // 2, center + window // 2 + 1)]
    return [min(place, period - place) if length > 1 else 0 for place in places]


def basicsr_names(arguments: EDVRArguments) -> dict[str, str]:
    """Every tensor of the network: its name in BasicSR's EDVR -> its name here."""
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in _modules(arguments) for kind in ("weight", "bias")}


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
