"""What every network here is: declared channels, convolutions that carry gates, and a compact form for every plan.

A subclass builds its dense form from plain `nn.Conv2d`s, states its channels in `channel_layout`, and calls
`add_gates` when it is built. The compact form is made from the dense one by `narrow`, which replaces convolutions: the
forward pass is written once, for any widths.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from vsrprune.channels.layout import RULES, ChannelLayout, ConvLayer
from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.narrowing import narrow, replace_module
from vsrprune.networks.parts.deformable import DeformableConv2d, GatedDeformableConv2d
from vsrprune.networks.parts.folding import Gated, folded_once
from vsrprune.networks.parts.layers import GatedConv2d

Flows = dict[str, Tensor]  # by branch: (N, T-1, 2, H, W)
States = Mapping[str, Tensor]  # of a frame, by branch (N, C, H, W); perhaps what else its step hands on, by other names
PAIRS = 8  # frames and neighbours whose flow is estimated together where memory counts


class VSROutput(NamedTuple):
    """frames_NTCHW: the restored clip. hidden: by branch, the T hidden states (N, C, H, W), in frame order."""

    frames_NTCHW: Tensor
    hidden: Mapping[str, list[Tensor]]


class FrameOutput(NamedTuple):
    """frame_NCHW: a restored frame. hidden: by branch its hidden state (N, C, H, W)."""

    frame_NCHW: Tensor
    hidden: Mapping[str, Tensor]


class Network(nn.Module):
    """A network that can be pruned.

    arguments: a dataclass with everything that shapes it, and what it is like; see `Traits`.
    plan: what is kept of the dense network; None for the dense network itself.
    flow_net: the part that estimates motion, where there is one; it is pruned if the arguments say so.
    checkpoint_frames: while it trains, keep less for the gradients where the network knows how, and compute it again.
    gradient_frames: gradients of hidden states stay within windows of so many frames, counted from the first frame of
    the clip (truncated backpropagation through time); 0: they go through the whole clip.
    """

    arguments: Any
    plan: PrunePlan | None = None
    flow_net: nn.Module | None
    checkpoint_frames: bool = False
    gradient_frames: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.flow_net = None  # an attribute of the class would hide the module of this name

    def __call__(self, *inputs: Any, **named: Any) -> VSROutput:
        """`forward`, with every gate folded once, however many frames there are."""
        # A compact network has no gates, and a frozen one is called for every frame of a film: it looks for none.
        with folded_once(self) if self.plan is None else nullcontext():
            output: VSROutput = super().__call__(*inputs, **named)
        return output

    def forward(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> VSROutput:
        """Restore clips: (N, T, 3, H, W), RGB in [0, 1], to (N, T, 3, scale*H, scale*W), not clipped.

        flows: what `flows(frames_NTCHW)` returns, where it is known already (a frozen flow net's flows serve several
        networks).
        """
        raise NotImplementedError

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule (rsc, aligned, inner)."""
        raise NotImplementedError

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        """What the flow net makes of a clip; nothing without one."""
        return {}

    def frame_by_frame(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[FrameOutput]:
        """What `forward` gives, a frame at a time and without gradients.

        A network that can do so holds less than `forward`: of a long clip, no more than later frames need.
        """
        output = self(frames_NTCHW, flows)
        for t, frame_NCHW in enumerate(output.frames_NTCHW.unbind(1)):
            yield FrameOutput(frame_NCHW, {branch: states[t] for branch, states in output.hidden.items()})

    def flows_in_parts(self, frames_NTCHW: Tensor) -> Flows:
        """What `flows` returns, a few pairs of frames at a time: of a clip of any length, the features of a few."""
        starts = range(0, max(frames_NTCHW.shape[1] - 1, 1), PAIRS)
        parts = [self.flows(frames_NTCHW[:, start : start + PAIRS + 1]) for start in starts]
        return {branch: torch.cat([part[branch] for part in parts], dim=1) for branch in parts[0]}

    def hidden_states(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Mapping[str, Sequence[Tensor]]:
        """The hidden states alone: what a teacher is asked for."""
        return self(frames_NTCHW, flows).hidden

    def handed_on(self, state: Tensor, source: int, target: int) -> Tensor:
        """What frame `target` reads of the state of frame `source`: without its gradient beyond the window.

        Windows are those of the clip, whichever way a branch goes, so that the gradients of a window's frames are those
        of a clip that begins with the states that were handed to it.
        """
        frames = self.gradient_frames
        return state.detach() if frames and source // frames != target // frames else state

    def states_handed_on(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Iterator[States]:
        """What the steps hand on, a frame at a time, in frame order and without gradients: the hidden states at least.

        A network that can do so holds no more than `frame_by_frame`, and restores no frame.
        """
        hidden = self.hidden_states(frames_NTCHW, flows)
        for t in range(frames_NTCHW.shape[1]):
            yield {branch: states[t] for branch, states in hidden.items()}

    def steps_alone(self, frames_NTCHW: Tensor, flows: Flows, given: Iterator[States]) -> Iterator[States] | None:
        """The hidden states of every frame, in frame order, if its step is handed `given` and no state of its own.

        given: what `states_handed_on` gives of every frame, perhaps of another network, in the channels of this one.
        None from a network that does not say what a step reads.
        """
        return None

    def stream_channels(self, branch: str) -> tuple[int, ...] | None:
        """The channels of the dense hidden state that this network still has; None for all of them."""
        return None

    def with_plan(self, plan: PrunePlan) -> Self:
        """A compact network of the plan's shape; its weights are some of this one's. Surgery fills in the right ones.

        Raises UserError if the plan is of another network.
        """
        layout = self.channel_layout(plan.rule)
        plan.check_fits(layout)
        smaller = copy.deepcopy(self)
        narrow(smaller, layout, plan)
        smaller.plan = plan
        return smaller

    def gate_parameters(self) -> list[nn.Parameter]:
        """Every gate (scaling factor) of the network, whatever the rule; none if it is compact."""
        layers = [module for module in self.modules() if isinstance(module, Gated)]
        gates = [gate for layer in layers for gate in (layer.gate, layer.input_gate)]
        return [gate for gate in gates if gate is not None]

    def optional_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint of the dense network may lack, with the values that then hold: gates are 1."""
        layouts, state = [self.channel_layout(rule) for rule in RULES], self.state_dict()
        gates = {gate.parameter for layout in layouts for group in layout.groups for gate in group.gates}
        return {name: torch.ones_like(state[name]) for name in state if name in gates}

    def flow_parameters(self) -> list[nn.Parameter]:
        """The weights of the flow net, without gates; none without one."""
        gates = {id(gate) for gate in self.gate_parameters()}
        everything = self.flow_net.parameters() if self.flow_net is not None else ()
        return [parameter for parameter in everything if id(parameter) not in gates]

    def train_flow(self, trained: bool) -> None:
        """Let the flow net train, or keep its weights as they are."""
        for parameter in self.flow_parameters():
            parameter.requires_grad_(trained)

    def add_gates(self) -> None:
        """Give every convolution the gates that it has under any rule: one pretraining serves all of them."""
        layouts = [self.channel_layout(rule) for rule in RULES]
        gates = {gate for layout in layouts for group in layout.groups for gate in group.gates}
        for conv in layouts[0].convs:
            sides = {gate.side for gate in gates if gate.conv == conv.name}
            if sides:
                replace_module(self, conv.name, _gated(self.get_submodule(conv.name), conv, "input" in sides))


def _gated(module: nn.Module, conv: ConvLayer, gated_inputs: bool) -> nn.Module:
    if isinstance(module, DeformableConv2d):
        return GatedDeformableConv2d(module)
    assert isinstance(module, nn.Conv2d), f"{conv.name} is no convolution"
    return GatedConv2d.from_conv(module, conv.filters_per_unit, gated_inputs)
