"""EDVR's arguments and channel groups, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.channels.layout import ChannelLayout, Slot
from vsrprune.channels.specification import RGB, Specification
from vsrprune.knobs import knob
from vsrprune.networks.parts.argument_checks import (
    BLOCKS,
    WIDTH,
    Enlarging,
    check_deformable_groups,
    slope,
    upsampler_channels,
    upscale_factors,
)
from vsrprune.networks.parts.traits import Reach, pyramid_side
from vsrprune.networks.parts.upsamplers.table import upsample, upsampler

LEVELS = (1, 2, 3)  # of the feature pyramid; level n has 1/2**(n-1) of the side


@dataclass(frozen=True)
class EDVRArguments(Enlarging):
    """Everything that shapes an EDVR network (Wang et al., CVPRW 2019). Defaults are the published EDVR-M."""

    channels: int = knob(64, "The width of the features on every level.", **WIDTH)
    window: int = knob(
        5, "Frames that one output frame is restored from, centred on it.", at_least=1, at_most=31, odd=True
    )
    deformable_groups: int = knob(8, "Groups of every deformable convolution.", **WIDTH)
    extract_blocks: int = knob(5, "Residual blocks before the alignment.", **BLOCKS)
    reconstruction_blocks: int = knob(10, "Residual blocks after the fusion.", **BLOCKS)
    upsampler_channels: int = upsampler_channels()
    upscale_factors: tuple[int, ...] = upscale_factors(2, 2)
    slope: float = slope()
    upsampler: str = upsampler()

    later = ("upsampler",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_deformable_groups(self.deformable_groups, self.channels, "model.channels")

    @property
    def reach(self) -> Reach:
        """Half a window to each side."""
        return (self.window // 2, self.window // 2)

    @property
    def smallest_side(self) -> int:
        """What the pyramid of features asks for."""
        return pyramid_side(len(LEVELS))


def edvr_layout(arguments: EDVRArguments, rule: str) -> ChannelLayout:
    """Groups and convolutions of EDVR under a residual rule.

    Offsets and masks themselves are never cut, nor which deformable group a channel belongs to. Embeddings whose
    products are summed lose the same channels, and so do maps that are added.
    """
    spec, channels, part = Specification(rule), arguments.channels, "features"
    features = spec.stream("feature_extraction", channels, part=part, writers=["conv_first"])
    spec.conv("conv_first", 3, [RGB], features)
    for block in range(arguments.extract_blocks):
        spec.block(f"feature_extraction.{block}", "feature_extraction", part=part)
    pyramid = [features]
    for level in LEVELS[1:]:
        slot = pyramid[-1]
        for name in (f"conv_l{level}_1", f"conv_l{level}_2"):
            slot = spec.filters(name, 3, [slot], channels, part=part, kind="pyramid", scale=_side(level))
        pyramid.append(slot)
    aligned = _state_alignment(spec, arguments, pyramid)
    stream = _state_fusion(spec, arguments, aligned)
    for block in range(arguments.reconstruction_blocks):
        spec.block(f"reconstruction.{block}", "reconstruction", part="reconstruction")
    upsample(spec, stream, arguments)
    return spec.layout()


def _side(level: int) -> float:
    """Side of a level of the pyramid relative to the frame."""
    return 0.5 ** (level - 1)


def _state_alignment(spec: Specification, arguments: EDVRArguments, pyramid: list[Slot]) -> Slot:
    """PCD, which runs once for every frame of a window; returns the slot of the aligned features."""
    masks = Slot(3 * arguments.deformable_groups * 3**2)

    def filters(name: str, inputs: list[Slot], level: int, kind: str) -> Slot:
        name, scale = f"pcd_align.{name}", _side(level)
        channels, times = arguments.channels, arguments.window
        return spec.filters(name, 3, inputs, channels, part="alignment", kind=kind, scale=scale, times=times)

    def deformed(name: str, inputs: list[Slot], guide: Slot, level: int) -> Slot:
        spec.conv(f"pcd_align.{name}.conv_offset", 3, [guide], masks, scale=_side(level), times=arguments.window)
        return filters(f"{name}.deform", inputs, level, "aligned")

    coarse: list[Slot] = []  # the guide and the aligned features of the level below
    for level in reversed(LEVELS):
        read = pyramid[level - 1]
        guide = filters(f"offset_conv1.l{level}", [read, read], level, "offset")
        guide = filters(f"offset_conv2.l{level}", [guide, *coarse[:1]], level, "offset")
        if coarse:
            guide = filters(f"offset_conv3.l{level}", [guide], level, "offset")
        aligned = deformed(f"dcn_pack.l{level}", [read], guide, level)
        if coarse:
            aligned = filters(f"feat_conv.l{level}", [aligned, *coarse[1:]], level, "aligned")
        coarse = [guide, aligned]
    guide = filters("cas_offset_conv1", [aligned, pyramid[0]], LEVELS[0], "offset")
    guide = filters("cas_offset_conv2", [guide], LEVELS[0], "offset")
    return deformed("cas_dcnpack", [aligned], guide, LEVELS[0])


def _state_fusion(spec: Specification, arguments: EDVRArguments, aligned: Slot) -> Slot:
    """TSA; returns the slot of its output, the stream of the reconstruction."""
    channels, part, window = arguments.channels, "fusion", [aligned] * arguments.window

    def filters(name: str, kernel: int, inputs: list[Slot], level: int) -> Slot:
        name, scale = f"fusion.{name}", _side(level)
        return spec.filters(name, kernel, inputs, channels, part=part, kind="attention", scale=scale)

    # The two embeddings are multiplied channel by channel, so they lose the same channels.
    embedded = spec.group(["fusion.temporal_attn1", "fusion.temporal_attn2"], channels, part=part, kind="embedding")
    spec.conv("fusion.temporal_attn1", 3, [aligned], embedded)
    spec.conv("fusion.temporal_attn2", 3, [aligned], embedded, times=arguments.window)
    first = filters("spatial_attn1", 1, window, 1)
    # Twice, here and below: the maxima and the means of the same features are concatenated (`_pooled` in network.py).
    half = filters("spatial_attn2", 1, [first, first], 2)
    quarter = filters("spatial_attn_l1", 1, [half], 2)
    quarter = filters("spatial_attn_l2", 3, [quarter, quarter], 3)
    added = spec.group(["fusion.spatial_attn3", "fusion.spatial_attn_l3"], channels, part=part, kind="attention")
    spec.conv("fusion.spatial_attn3", 3, [half], added, scale=_side(2))
    spec.conv("fusion.spatial_attn_l3", 3, [quarter], added, scale=_side(3))
    attention = filters("spatial_attn4", 1, [added], 2)
    # The stream starts from fused features times attention, plus what attention adds.
    starts = [f"fusion.{name}" for name in ("feat_fusion", "spatial_attn5", "spatial_attn_add2")]
    stream = spec.stream("reconstruction", channels, part="reconstruction", writers=starts)
    spec.conv("fusion.feat_fusion", 1, window, stream)
    spec.conv("fusion.spatial_attn5", 3, [attention], stream)
    between = filters("spatial_attn_add1", 1, [stream], 1)
    spec.conv("fusion.spatial_attn_add2", 1, [between], stream)
    return stream


def window_indices(center: int, length: int, window: int) -> list[int]:
    """The frames of a window in a clip of so many frames, mirrored at its ends without repeating the end frame.

    BasicSR's padding `reflection`: 2, 1, 0, 1, 2 around frame 0 (its tests of EDVR choose `reflection_circle`, 4, 3,
    0, 1, 2, which clips shorter than the window do not have). Short clips are mirrored again until an index fits.
    """
    period = max(2 * (length - 1), 1)
    places = [place % period for place in range(center - window // 2, center + window // 2 + 1)]
    return [min(place, period - place) if length > 1 else 0 for place in places]
