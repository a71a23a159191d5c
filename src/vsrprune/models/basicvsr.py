"""BasicVSR (Chan et al., CVPR 2021), bidirectional or unidirectional, gated for pruning or compact after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vsrprune.channels import ChannelLayout, PrunePlan
from vsrprune.models.basicvsr_channels import RGB, BasicVSRArguments, basicvsr_layout, trunk
from vsrprune.models.flow import SPyNet
from vsrprune.models.layers import GatedConv2d, ResidualBlock, enlarge, plain_conv, warp

RESIDUAL_INIT = 0.1  # with the usual initialisation a small network trains to below bicubic

Flows = dict[str, Tensor]  # by branch: (N, T-1, 2, H, W)


class VSROutput(NamedTuple):
    """frames_NTCHW: the super-resolved clip. hidden: by branch, the T hidden states (N, C, H, W), in frame order."""

    frames_NTCHW: Tensor
    hidden: dict[str, list[Tensor]]


class BasicVSR(nn.Module):
    """Recurrent video super-resolution.

    Without a plan every prunable convolution carries gates (scaling factors). With a plan the network is compact: it
    has the plan's widths, the gates are gone, and residual blocks read and write the kept channels of the stream.

    checkpoint_frames: while it trains, keep only what passes from frame to frame, and compute the rest of a frame again
    when its gradients are due: long clips need less memory, and a step 1.2 to 1.4 times the time.
    """

    checkpoint_frames = False

    def __init__(self, arguments: BasicVSRArguments, plan: PrunePlan | None = None) -> None:
        super().__init__()
        self.arguments, self.plan = arguments, plan
        if plan is not None:
            plan.check_fits(self.channel_layout(plan.rule))
        self.flow_net = SPyNet(arguments.flow_levels, arguments.flow_kernel, arguments.flow_widths)
        for name in arguments.branches:
            self.add_module(trunk(name), _Trunk(arguments, plan, trunk(name)))
        conv = GatedConv2d if plan is None else plain_conv
        width = sum(_kept_count(plan, f"{trunk(name)}.stream", arguments.channels) for name in arguments.branches)
        if arguments.bidirectional:
            fused = _kept_count(plan, "fusion", arguments.channels)
            self.fusion = conv(width, fused, 1)
            width = fused
        for index, factor in enumerate(arguments.upscale_factors, start=1):
            last = index == len(arguments.upscale_factors)
            full = arguments.upsampler_channels if last else arguments.channels
            shuffled = _kept_count(plan, f"upconv{index}", full)
            self.add_module(f"upconv{index}", conv(width, shuffled, 3, filters_per_unit=factor**2))
            width = shuffled
        high = _kept_count(plan, "conv_hr", arguments.upsampler_channels)
        self.conv_hr = conv(width, high, 3)
        self.conv_last = plain_conv(high, RGB, 3)

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule (rsc, aligned, inner)."""
        return basicvsr_layout(self.arguments, rule)

    def with_plan(self, plan: PrunePlan) -> BasicVSR:
        """A compact network of the plan's shape, newly initialised; surgery fills in the weights."""
        return BasicVSR(self.arguments, plan)

    def stream_channels(self, branch: str) -> tuple[int, ...] | None:
        """The channels of the dense hidden state that this network still has; None for all of them."""
        return None if self.plan is None else self.plan.kept.get(f"{trunk(branch)}.stream")

    def gate_parameters(self) -> list[nn.Parameter]:
        """Every gate (scaling factor) of the network, whatever the rule; none if it is compact."""
        layers = [module for module in self.modules() if isinstance(module, GatedConv2d)]
        gates = [gate for layer in layers for gate in (layer.gate, layer.input_gate)]
        return [gate for gate in gates if gate is not None]

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """Flow of each branch: from frame t to the neighbour whose hidden state is warped to t."""
        batch, length, channels, height, width = frames_NTCHW.shape
        earlier = frames_NTCHW[:, :-1].reshape(-1, channels, height, width)
        later = frames_NTCHW[:, 1:].reshape(-1, channels, height, width)
        pairs = {"backward": (earlier, later), "forward": (later, earlier)}
        shape = (batch, length - 1, 2, height, width)
        if length == 1:
            return {branch: frames_NTCHW.new_zeros(shape) for branch in self.arguments.branches}
        return {branch: self.flow_net(*pairs[branch]).view(shape) for branch in self.arguments.branches}

    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> VSROutput:
        """Super-resolve clips: (N, T, 3, H, W), RGB in [0, 1], to (N, T, 3, scale*H, scale*W), not clipped.

        flows: what `flows(frames_NTCHW)` returns, where it is known already (a frozen flow net's flows serve several
        networks).
        """
        hidden = self.hidden_states(frames_NTCHW, flows)
        frames = [
            self._remembered(self.upsample, [states[t] for states in hidden.values()], frames_NTCHW[:, t])
            for t in range(frames_NTCHW.shape[1])
        ]
        return VSROutput(torch.stack(frames, dim=1), hidden)

    def hidden_states(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> dict[str, list[Tensor]]:
        """The propagation alone: what a teacher is asked for, without the upsampler."""
        if flows is None:
            flows = self.flows(frames_NTCHW)
        return {
            name: self.get_submodule(trunk(name))(frames_NTCHW, flows[name], name == "backward", self._remembered)
            for name in self.arguments.branches
        }

    def _remembered(self, step: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """`step(*inputs)`, without what lies between for the gradients if frames are checkpointed."""
        if not (self.checkpoint_frames and torch.is_grad_enabled()):
            return step(*inputs)
        output: Tensor = checkpoint(step, *inputs, use_reentrant=False)
        return output

    def upsample(self, states: Sequence[Tensor], frame_NCHW: Tensor) -> Tensor:
        """Fuse the states (N, C, H, W) of a frame, in the order of the branches, and enlarge."""
        x_NCHW = states[0]
        if self.arguments.bidirectional:
            x_NCHW = self._activate(self.fusion(torch.cat(list(states), dim=1)))
        for index, factor in enumerate(self.arguments.upscale_factors, start=1):
            upconv = self.get_submodule(f"upconv{index}")
            x_NCHW = self._activate(F.pixel_shuffle(upconv(x_NCHW), factor))
        detail_NCHW: Tensor = self.conv_last(self._activate(self.conv_hr(x_NCHW)))
        return detail_NCHW.add_(enlarge(frame_NCHW, self.arguments.scale))

    def _activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(x, self.arguments.slope)


class _Trunk(nn.Module):
    """One direction of propagation: warp the hidden state, read the frame, refine by residual blocks."""

    def __init__(self, arguments: BasicVSRArguments, plan: PrunePlan | None, name: str) -> None:
        super().__init__()
        self.slope = arguments.slope
        full = arguments.channels
        self.width = _kept_count(plan, f"{name}.stream", full)
        first: Callable[..., nn.Conv2d] = GatedConv2d if plan is None else plain_conv
        self.first = first(RGB + self.width, self.width, 3)
        self.blocks = nn.Sequential(
            *(self._block(plan, f"{name}.blocks.{index}", full) for index in range(arguments.blocks))
        )

    def _block(self, plan: PrunePlan | None, name: str, full: int) -> ResidualBlock:
        if plan is None:
            conv1 = _small_init(GatedConv2d(full, full, 3, gated_inputs=True))
            return ResidualBlock(conv1, _small_init(GatedConv2d(full, full, 3)))
        read, written = plan.kept.get(f"{name}.conv1.input"), plan.kept.get(f"{name}.conv2")
        middle = _kept_count(plan, f"{name}.conv1", full)
        return ResidualBlock(
            _small_init(plain_conv(self.width if read is None else len(read), middle, 3)),
            _small_init(plain_conv(middle, self.width if written is None else len(written), 3)),
            _unless_all(read, self.width),
            _unless_all(written, self.width),
        )

    def forward(
        self, frames_NTCHW: Tensor, flows_NT2HW: Tensor, reverse: bool, call: Callable[..., Tensor]
    ) -> list[Tensor]:
        """Hidden states (N, C, H, W) of all frames, in frame order; `call` runs the step of a frame."""
        batch, length, _, height, width = frames_NTCHW.shape
        order = range(length - 1, -1, -1) if reverse else range(length)
        states: list[Tensor] = []
        state_NCHW = frames_NTCHW.new_zeros(batch, self.width, height, width)
        for step, t in enumerate(order):
            flow_N2HW = flows_NT2HW[:, t if reverse else t - 1] if step > 0 else None
            state_NCHW = call(self.step, frames_NTCHW[:, t], state_NCHW, flow_N2HW)
            states.append(state_NCHW)
        return states[::-1] if reverse else states

    def step(self, frame_NCHW: Tensor, state_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
        """The state of a frame from that of the frame before, which is warped by the flow; None at the first frame."""
        if flow_N2HW is not None:
            state_NCHW = warp(state_NCHW, flow_N2HW)
        joined_NCHW = torch.cat((frame_NCHW, state_NCHW), dim=1)
        refined_NCHW: Tensor = self.blocks(F.leaky_relu_(self.first(joined_NCHW), self.slope))
        return refined_NCHW


def _kept_count(plan: PrunePlan | None, group: str, full: int) -> int:
    """Width after pruning; a group that the plan's rule does not have is whole."""
    return full if plan is None or group not in plan.kept else len(plan.kept[group])


def _unless_all(channels: tuple[int, ...] | None, full: int) -> tuple[int, ...] | None:
    return None if channels is None or len(channels) == full else channels


def _small_init(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(conv.weight)
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight.mul_(RESIDUAL_INIT)
        conv.bias.zero_()
    return conv
