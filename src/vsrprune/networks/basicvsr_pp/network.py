"""BasicVSR++ (Chan et al., CVPR 2022): four branches of propagation, aligned by flow and deformable convolution.

As BasicSR's BasicVSRPlusPlus for low-resolution input; `basicsr_names` maps its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from vsrprune.channels.layout import ChannelLayout
from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.basicvsr_pp.spec import DIRECTIONS, BasicVSRPPArguments, basicvsr_pp_layout
from vsrprune.networks.network import Flows, States, VSROutput
from vsrprune.networks.parts.deformable import DeformableConv2d, offset_and_mask, zero_init
from vsrprune.networks.parts.flow import SPyNet, clip_flows
from vsrprune.networks.parts.layers import plain_conv, warp
from vsrprune.networks.parts.reconstruction import ResidualTrunk, Upsampler


class BasicVSRPlusPlus(Upsampler):
    """Recurrent video super-resolution; every branch reads the features of a frame and all branches before it."""

    flow_net: SPyNet

    def __init__(self, arguments: BasicVSRPPArguments) -> None:
        super().__init__(arguments)
        channels, slope = arguments.channels, arguments.slope
        self.flow_net = SPyNet(
            arguments.flow_levels, arguments.flow_kernel, arguments.flow_widths, arguments.flow_skipped
        )
        self.feat_extract = ResidualTrunk(RGB, channels, arguments.extract_blocks, slope)
        self.deform_align = nn.ModuleDict({branch: SecondOrderAlignment(arguments) for branch in arguments.branches})
        # A branch reads the frame's features, the branches before it and its own aligned state.
        self.backbone = nn.ModuleDict(
            {
                branch: ResidualTrunk((2 + earlier) * channels, channels, arguments.blocks, slope)
                for earlier, branch in enumerate(arguments.branches)
            }
        )
        read = (1 + len(arguments.branches)) * channels
        self.reconstruction = ResidualTrunk(read, channels, arguments.reconstruction_blocks, slope)
        self.add_upsampler()
        self.add_gates()

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule (rsc, aligned, inner)."""
        return basicvsr_pp_layout(self.arguments, rule)

    def stream_channels(self, branch: str) -> tuple[int, ...] | None:
        """The channels of the dense hidden state that this network still has; None for all of them."""
        return None if self.plan is None else self.plan.kept.get(f"backbone.{branch}.stream")

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """Flow of each direction: from frame t to the neighbour whose hidden state is warped to t."""
        return clip_flows(self.flow_net, frames_NTCHW, self.arguments.directions)

    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> VSROutput:
        """Super-resolve clips: (N, T, 3, H, W), RGB in [0, 1], to (N, T, 3, scale*H, scale*W), not clipped.

        flows: what `flows(frames_NTCHW)` returns, where it is known already.
        """
        features = self._features(frames_NTCHW)
        hidden = self._propagate(features, self.flows(frames_NTCHW) if flows is None else flows)
        frames = [
            self.upsample([features[t], *(states[t] for states in hidden.values())], frames_NTCHW[:, t])
            for t in range(len(features))
        ]
        return VSROutput(torch.stack(frames, dim=1), hidden)

    def hidden_states(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> dict[str, list[Tensor]]:
        """The propagation alone: the states (N, C, H, W) of all frames by branch, in frame order."""
        return self._propagate(self._features(frames_NTCHW), self.flows(frames_NTCHW) if flows is None else flows)

    def steps_alone(self, frames_NTCHW: Tensor, flows: Flows, given: Iterator[States]) -> Iterator[States]:
        """See Network. A step is handed two states of its branch, and those of the frame by earlier branches."""
        features, states = self._features(frames_NTCHW), list(given)
        for t in range(len(states)):
            made, seen = {}, [features[t]]
            for branch, direction in DIRECTIONS.items():
                of_branch = {at: states[at][branch] for at in range(max(0, t - 2), min(t + 3, len(states)))}
                made[branch] = self._step(branch, t, list(seen), of_branch, flows[direction])
                seen.append(states[t][branch])
            yield made

    def upsample(self, states: Sequence[Tensor], frame_NCHW: Tensor) -> Tensor:
        """Fuse a frame's features and its states in the order of the branches, all (N, C, H, W), and enlarge."""
        return self.enlarge(self.reconstruction(torch.cat(list(states), dim=1)), frame_NCHW)

    def _features(self, frames_NTCHW: Tensor) -> list[Tensor]:
        """Features (N, C, H, W) of every frame by itself."""
        batch, length = frames_NTCHW.shape[:2]
        # All frames as one batch: their features do not depend on each other.
        features: Tensor = self.feat_extract(frames_NTCHW.flatten(0, 1))
        return list(torch.unflatten(features, 0, (batch, length)).unbind(1))

    def _propagate(self, features: Sequence[Tensor], flows: Flows) -> dict[str, list[Tensor]]:
        hidden: dict[str, list[Tensor]] = {}
        for branch, direction in DIRECTIONS.items():
            read = [features, *hidden.values()]
            seen = [[states[t] for states in read] for t in range(len(features))]
            states: dict[int, Tensor] = {}
            for t in range(len(seen))[:: -1 if direction == "backward" else 1]:
                states[t] = self._step(branch, t, seen[t], states, flows[direction])
            hidden[branch] = [states[t] for t in range(len(seen))]
        return hidden

    def _step(
        self, branch: str, t: int, seen: list[Tensor], states: Mapping[int, Tensor], flows_NT2HW: Tensor
    ) -> Tensor:
        """The state of a frame. seen: its features and its states of the branches before. states: of other frames."""
        align = self.deform_align[branch]
        assert isinstance(align, SecondOrderAlignment)
        # Of the frame before, in the branch's direction, and the one before that; there is none before the first.
        one, two = (t + 1, t + 2) if DIRECTIONS[branch] == "backward" else (t - 1, t - 2)
        if one not in states:
            aligned_NCHW = align.first_state(seen[0])
        else:
            flow_N2HW = flows_NT2HW[:, min(t, one)]
            second = None
            if two in states:
                second = (self.handed_on(states[two], two, t), flows_NT2HW[:, min(one, two)])
            aligned_NCHW = align(seen[0], self.handed_on(states[one], one, t), flow_N2HW, second)
        refined_NCHW: Tensor = self.backbone[branch](torch.cat((*seen, aligned_NCHW), dim=1))
        return aligned_NCHW + refined_NCHW


class SecondOrderAlignment(nn.Module):
    """Brings the hidden states of the last two frames to the present one by a deformable convolution (section 3.3).

    Its offsets are the flow plus a residue, which a small network reads from the states warped by the flow. Half of
    the deformable groups are those of the last state's channels, half of the state before it.
    """

    def __init__(self, arguments: BasicVSRPPArguments) -> None:
        super().__init__()
        channels, groups = arguments.channels, arguments.deformable_groups
        self.max_residue = arguments.max_residue
        points = groups * 3**2
        layers: list[nn.Module] = []
        for inputs in (3 * channels + 2 * 2, channels, channels):
            layers += [plain_conv(inputs, channels, 3), nn.LeakyReLU(arguments.slope, inplace=True)]
        # Zeros, so that training starts from offsets that are the flow itself.
        self.conv_offset = nn.Sequential(*layers, zero_init(plain_conv(channels, 3 * points, 3)))
        self.deform = DeformableConv2d(2 * channels, channels, 3, groups)

    def first_state(self, features_NCHW: Tensor) -> Tensor:
        """What stands for an aligned state where no frame was before: zeros."""
        batch, _, height, width = features_NCHW.shape
        return features_NCHW.new_zeros(batch, self.deform.out_channels, height, width)

    def forward(
        self,
        features_NCHW: Tensor,
        state_NCHW: Tensor,
        flow_N2HW: Tensor,
        second: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The aligned state (N, C, H, W) of a frame with these features.

        state_NCHW, flow_N2HW: state of the frame before, and the flow from this frame to it (x, y; pixels).
        second: the same for the frame before that one: its state, and the flow from the frame before to it.
        """
        warped_NCHW = warp(state_NCHW, flow_N2HW)
        # The second frame of a branch has one state before it, and none before that.
        if second is None:
            far_NCHW, far_warped_NCHW, far_flow_N2HW = map(torch.zeros_like, (state_NCHW, warped_NCHW, flow_N2HW))
        else:
            far_NCHW = second[0]
            # Two flows of one frame make the flow over two, so that no other is estimated.
            far_flow_N2HW = flow_N2HW + warp(second[1], flow_N2HW)
            far_warped_NCHW = warp(far_NCHW, far_flow_N2HW)
        guide_NCHW = torch.cat((warped_NCHW, features_NCHW, far_warped_NCHW, flow_N2HW, far_flow_N2HW), dim=1)
        offset, mask = offset_and_mask(self.conv_offset(guide_NCHW))
        # tanh keeps every offset within max_residue pixels of the flow.
        near, far = (self.max_residue * offset.tanh()).chunk(2, dim=1)
        offset = torch.cat((_around(flow_N2HW, near), _around(far_flow_N2HW, far)), dim=1)
        aligned_NCHW: Tensor = self.deform(torch.cat((state_NCHW, far_NCHW), dim=1), offset, mask)
        return aligned_NCHW


def _around(flow_N2HW: Tensor, residue: Tensor) -> Tensor:
    """Offsets (y before x for each point, unlike a flow) that differ from the flow by a residue of their shape."""
    return residue + flow_N2HW.flip(1).repeat(1, residue.shape[1] // 2, 1, 1)
