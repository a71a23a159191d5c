"""EDVR (Wang et al., CVPRW 2019): every frame is restored from a window of frames that are aligned to it.

As BasicSR's EDVR with temporal and spatial attention and without its deblurring module; `basicsr_names` maps its
weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.channels.layout import ChannelLayout
from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.edvr.spec import LEVELS, EDVRArguments, edvr_layout, window_indices
from vsrprune.networks.network import VSROutput
from vsrprune.networks.parts.deformable import GuidedDeformableConv2d
from vsrprune.networks.parts.layers import plain_conv
from vsrprune.networks.parts.reconstruction import Upsampler, residual_blocks

MULTIPLE = 2 ** (len(LEVELS) - 1)  # sides must halve down to the coarsest level


class EDVR(Upsampler):
    """Video super-resolution by sliding windows; whole clips, so that each frame's features are made once."""

    def __init__(self, arguments: EDVRArguments) -> None:
        super().__init__(arguments)
        channels = arguments.channels
        self.conv_first = plain_conv(RGB, channels, 3)
        self.feature_extraction = residual_blocks(channels, arguments.extract_blocks)
        self.conv_l2_1 = _halving_conv(channels)
        self.conv_l2_2 = plain_conv(channels, channels, 3)
        self.conv_l3_1 = _halving_conv(channels)
        self.conv_l3_2 = plain_conv(channels, channels, 3)
        self.pcd_align = PyramidAlignment(arguments)
        self.fusion = AttentionFusion(arguments)
        self.reconstruction = residual_blocks(channels, arguments.reconstruction_blocks)
        self.add_upsampler()
        self.add_gates()

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule (rsc, aligned, inner)."""
        return edvr_layout(self.arguments, rule)

    def forward(self, frames_NTCHW: Tensor, flows: Mapping[str, Tensor] | None = None) -> VSROutput:
        """Super-resolve clips: (N, T, 3, H, W), RGB in [0, 1], to (N, T, 3, scale*H, scale*W), not clipped.

        Clips are mirrored at their ends (`window_indices`). flows: not read; EDVR has no flow net and no hidden states.
        """
        height, width = (self.arguments.scale * side for side in frames_NTCHW.shape[-2:])
        padded_NTCHW = _padded(frames_NTCHW)
        pyramid = self._pyramid(padded_NTCHW)
        frames = [
            _corner(self._restore(pyramid, padded_NTCHW[:, t], t), height, width) for t in range(frames_NTCHW.shape[1])
        ]
        return VSROutput(torch.stack(frames, dim=1), {})

    def _pyramid(self, frames_NTCHW: Tensor) -> list[Tensor]:
        """Features (N, T, C, H, W) of every frame by itself, finest level first."""
        # All frames as one batch: features of a frame do not depend on its neighbours, and windows overlap.
        level1 = self.feature_extraction(self.activate(self.conv_first(frames_NTCHW.flatten(0, 1))))
        level2 = self.activate(self.conv_l2_2(self.activate(self.conv_l2_1(level1))))
        level3 = self.activate(self.conv_l3_2(self.activate(self.conv_l3_1(level2))))
        batch, length = frames_NTCHW.shape[:2]
        return [torch.unflatten(level, 0, (batch, length)) for level in (level1, level2, level3)]

    def _restore(self, pyramid: Sequence[Tensor], frame_NCHW: Tensor, t: int) -> Tensor:
        """Frame t of the output, enlarged, from the features of all frames."""
        batch, length = pyramid[0].shape[:2]
        indices = window_indices(t, length, self.arguments.window)
        # All pairs of neighbour and reference at once, as a batch.
        neighbours = [torch.stack([level[:, index] for index in indices], dim=1).flatten(0, 1) for level in pyramid]
        references = [torch.stack([level[:, t]] * len(indices), dim=1).flatten(0, 1) for level in pyramid]
        aligned: Tensor = self.pcd_align(neighbours, references)
        fused_NCHW = self.fusion(torch.unflatten(aligned, 0, (batch, len(indices))))
        return self.enlarge(self.reconstruction(fused_NCHW), frame_NCHW)


class PyramidAlignment(nn.Module):
    """Aligns features to those of a reference frame by deformable convolutions, coarse to fine (PCD, section 3.2).

    Offsets of a level start from those of the coarser one; a last alignment on the finest level follows.
    """

    def __init__(self, arguments: EDVRArguments) -> None:
        super().__init__()
        self.slope = arguments.slope
        channels, groups = arguments.channels, arguments.deformable_groups
        self.offset_conv1, self.offset_conv2 = nn.ModuleDict(), nn.ModuleDict()
        self.offset_conv3, self.dcn_pack, self.feat_conv = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for level in reversed(LEVELS):
            name, coarsest = f"l{level}", level == LEVELS[-1]
            self.offset_conv1[name] = plain_conv(2 * channels, channels, 3)
            self.offset_conv2[name] = plain_conv(channels if coarsest else 2 * channels, channels, 3)
            self.dcn_pack[name] = GuidedDeformableConv2d(channels, 3, groups)
            if not coarsest:
                self.offset_conv3[name] = plain_conv(channels, channels, 3)
                self.feat_conv[name] = plain_conv(2 * channels, channels, 3)
        self.cas_offset_conv1 = plain_conv(2 * channels, channels, 3)
        self.cas_offset_conv2 = plain_conv(channels, channels, 3)
        self.cas_dcnpack = GuidedDeformableConv2d(channels, 3, groups)

    def forward(self, neighbours: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
        """Aligned features (N, C, H, W) on the finest level, from three levels of both, finest first."""
        guide_NCHW, aligned_NCHW = self._align_coarsest(neighbours[-1], references[-1])
        for level in reversed(LEVELS[:-1]):
            neighbour_NCHW, reference_NCHW = neighbours[level - 1], references[level - 1]
            # What offsets are made from is doubled too: a step is half as long in pixels of the coarser level.
            coarse = 2 * _doubled(guide_NCHW), _doubled(aligned_NCHW)
            guide_NCHW, aligned_NCHW = self._align(f"l{level}", neighbour_NCHW, reference_NCHW, *coarse)
            if level > LEVELS[0]:
                aligned_NCHW = self._activate(aligned_NCHW)
        both_NCHW = torch.cat((aligned_NCHW, references[0]), dim=1)
        guide_NCHW = self._activate(self.cas_offset_conv2(self._activate(self.cas_offset_conv1(both_NCHW))))
        return self._activate(self.cas_dcnpack(aligned_NCHW, guide_NCHW))

    def _align_coarsest(self, neighbour_NCHW: Tensor, reference_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        name = f"l{LEVELS[-1]}"
        guide_NCHW = self._guide(name, neighbour_NCHW, reference_NCHW)
        guide_NCHW = self._activate(self.offset_conv2[name](guide_NCHW))
        return guide_NCHW, self._activate(self.dcn_pack[name](neighbour_NCHW, guide_NCHW))

    def _align(
        self, name: str, neighbour_NCHW: Tensor, reference_NCHW: Tensor, coarse_guide: Tensor, coarse_aligned: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What offsets are made from on a level, and its aligned features before the activation."""
        guide_NCHW = torch.cat((self._guide(name, neighbour_NCHW, reference_NCHW), coarse_guide), dim=1)
        guide_NCHW = self._activate(self.offset_conv2[name](guide_NCHW))
        guide_NCHW = self._activate(self.offset_conv3[name](guide_NCHW))
        aligned_NCHW = self.dcn_pack[name](neighbour_NCHW, guide_NCHW)
        return guide_NCHW, self.feat_conv[name](torch.cat((aligned_NCHW, coarse_aligned), dim=1))

    def _guide(self, name: str, neighbour_NCHW: Tensor, reference_NCHW: Tensor) -> Tensor:
        return self._activate(self.offset_conv1[name](torch.cat((neighbour_NCHW, reference_NCHW), dim=1)))

    def _activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(x, self.slope)


class AttentionFusion(nn.Module):
    """Fuses aligned features by attention over frames, then over places (TSA, section 3.3).

    A frame weighs, at each pixel, by the likeness of its embedding to the central frame's.
    """

    def __init__(self, arguments: EDVRArguments) -> None:
        super().__init__()
        self.slope, self.center = arguments.slope, arguments.window // 2
        channels, joined = arguments.channels, arguments.window * arguments.channels
        self.temporal_attn1 = plain_conv(channels, channels, 3)
        self.temporal_attn2 = plain_conv(channels, channels, 3)
        self.feat_fusion = plain_conv(joined, channels, 1)
        self.spatial_attn1 = plain_conv(joined, channels, 1)
        self.spatial_attn2 = plain_conv(2 * channels, channels, 1)
        self.spatial_attn3 = plain_conv(channels, channels, 3)
        self.spatial_attn4 = plain_conv(channels, channels, 1)
        self.spatial_attn5 = plain_conv(channels, channels, 3)
        self.spatial_attn_l1 = plain_conv(channels, channels, 1)
        self.spatial_attn_l2 = plain_conv(2 * channels, channels, 3)
        self.spatial_attn_l3 = plain_conv(channels, channels, 3)
        self.spatial_attn_add1 = plain_conv(channels, channels, 1)
        self.spatial_attn_add2 = plain_conv(channels, channels, 1)

    def forward(self, aligned_NTCHW: Tensor) -> Tensor:
        """Fuse the window's features (N, T, C, H, W) to (N, C, H, W)."""
        joined_NCHW = self._weigh_frames(aligned_NTCHW).flatten(1, 2)
        fused_NCHW = self._activate(self.feat_fusion(joined_NCHW))
        attention_NCHW = self._look_at_places(joined_NCHW)
        added_NCHW = self.spatial_attn_add2(self._activate(self.spatial_attn_add1(attention_NCHW)))
        # Twice a sigmoid is about 1 at the start of training.
        output_NCHW: Tensor = fused_NCHW * attention_NCHW.sigmoid() * 2 + added_NCHW
        return output_NCHW

    def _weigh_frames(self, aligned_NTCHW: Tensor) -> Tensor:
        batch, length = aligned_NTCHW.shape[:2]
        reference_NCHW = self.temporal_attn1(aligned_NTCHW[:, self.center])
        embedded = torch.unflatten(self.temporal_attn2(aligned_NTCHW.flatten(0, 1)), 0, (batch, length))
        likeness: Tensor = (embedded * reference_NCHW.unsqueeze(1)).sum(dim=2, keepdim=True)
        return aligned_NTCHW * likeness.sigmoid()

    def _look_at_places(self, joined_NCHW: Tensor) -> Tensor:
        """Attention before its sigmoid, from the features at half and at a quarter of the side."""
        half_NCHW = self._activate(self.spatial_attn2(_pooled(self._activate(self.spatial_attn1(joined_NCHW)))))
        quarter_NCHW = self._activate(self.spatial_attn_l2(_pooled(self._activate(self.spatial_attn_l1(half_NCHW)))))
        coarse_NCHW = _doubled(self._activate(self.spatial_attn_l3(quarter_NCHW)))
        half_NCHW = self._activate(self.spatial_attn3(half_NCHW)) + coarse_NCHW
        attention_NCHW: Tensor = self.spatial_attn5(_doubled(self._activate(self.spatial_attn4(half_NCHW))))
        return attention_NCHW

    def _activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(x, self.slope)


def _halving_conv(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=2, padding=1)


def _padded(frames_NTCHW: Tensor) -> Tensor:
    """Right and below, up to the next multiple. The border is repeated: mirroring needs frames larger than the pad."""
    height, width = frames_NTCHW.shape[-2:]
    pad = (0, (MULTIPLE - width % MULTIPLE) % MULTIPLE, 0, (MULTIPLE - height % MULTIPLE) % MULTIPLE, 0, 0)
    return F.pad(frames_NTCHW, pad, mode="replicate")


def _corner(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    """The upper left part, as a copy: a slice would make a traced graph one of the sizes that need padding, or not."""
    rows, columns = (torch.arange(side, device=x_NCHW.device) for side in (height, width))
    return x_NCHW.index_select(-2, rows).index_select(-1, columns)


def _pooled(x_NCHW: Tensor) -> Tensor:
    """Maxima and means at half the side, one after the other: (N, 2*C, H/2, W/2)."""
    return torch.cat((F.max_pool2d(x_NCHW, 3, 2, 1), F.avg_pool2d(x_NCHW, 3, 2, 1)), dim=1)


def _doubled(x_NCHW: Tensor) -> Tensor:
    return F.interpolate(x_NCHW, scale_factor=2.0, mode="bilinear", align_corners=False)
