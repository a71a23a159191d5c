"""A network of one's own: gates, a layout from its declaration, compact forms, and the proof that they are right."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import torch
from torch import Tensor, nn

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.files import WEIGHTS, load_exactly, read_weights, write_weights
from vsrprune.networks.network import Network
from vsrprune.networks.own.declaration import Declaration
from vsrprune.networks.own.proof import prove
from vsrprune.networks.own.tracing import Trace, trace
from vsrprune.store.atomic import write_json

PLAN = "plan.json"
TRACED_FRAMES = 3


class OwnNetwork(Network):
    """Base class: write `forward` and `channel_groups`, build convolutions as plain `nn.Conv2d`, then call `prepare`.

    `forward(frames_NTCHW, flows=None)` returns VSROutput(frames, hidden states by branch, one tensor per frame). Widths
    are taken from modules (`self.first.out_channels`) or tensors, never from constants: they change.
    """

    _trace: Trace | None = None

    def channel_groups(self, rule: str) -> Declaration:
        """What tracing cannot see: streams, recurrent states and concatenations. Nothing, unless overridden."""
        return Declaration(rule)

    def prepare(self, frames_NTCHW: Tensor | None = None) -> Self:
        """Trace the network, check its declaration, add gates, and prove every cut; returns the network itself.

        frames_NTCHW: a clip (1, T, 3, H, W) with T >= 2, small; random ones if not given. Raises UserError that says
        what is declared wrongly, before anything is trained.
        """
        if frames_NTCHW is None:
            frames_NTCHW = torch.rand(1, TRACED_FRAMES, 3, 20, 24)
        if frames_NTCHW.ndim != 5 or frames_NTCHW.shape[1] < 2:
            raise UserError(f"prepare takes a clip (1, T, 3, H, W) with T >= 2; got {tuple(frames_NTCHW.shape)}")
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                module.bias = nn.Parameter(module.weight.new_zeros(module.out_channels))  # a cut unit has one
        self._trace = trace(self, frames_NTCHW.to(next(self.parameters())))
        self.arguments = SimpleNamespace(scale=self._trace.scale, branches=self._trace.branches)
        self.add_gates()
        prove(self, frames_NTCHW)
        return self

    def channel_layout(self, rule: str) -> ChannelLayout:
        """Channel groups and convolutions under a residual rule; see `prepare`."""
        if self._trace is None:
            raise UserError(f"{type(self).__name__} was not prepared; call prepare() before it is pruned")
        return self.channel_groups(rule).layout(self._trace.convs)

    def stream_channels(self, branch: str) -> tuple[int, ...] | None:
        """The channels of the dense hidden state that this network still has; None for all of them.

        A hidden state of the name of a stream, or of the convolution that writes it, is found by itself.
        """
        kept = {} if self.plan is None else self.plan.kept
        return kept.get(f"{branch}.stream", kept.get(branch))

    def save(self, folder: Path) -> None:
        """Write the weights, and the plan if the network is compact, into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(self, folder)
        write_json(folder / PLAN, None if self.plan is None else self.plan.to_json())

    def load(self, folder: Path) -> Self:
        """The network that `save` wrote, compact if it was: its shape from this one (dense, prepared).

        Raises UserError where the folder holds another network.
        """
        plan = json.loads((folder / PLAN).read_text())
        network = self if plan is None else self.with_plan(PrunePlan.from_json(plan))
        load_exactly(network, read_weights(folder / WEIGHTS), folder / WEIGHTS)
        return network

    def explain(self, rule: str) -> str:
        """A line per convolution: what may be cut of it, and why not."""
        assert self._trace is not None, "call prepare() first"
        layout, declared = self.channel_layout(rule), self.channel_groups(rule).writers()
        lines = []
        for conv in layout.convs:
            traced = self._trace.convs[conv.name]
            if conv.output.group:
                words = f"{traced.units} channels in group {conv.output.group}"
            else:
                reason = f"it writes {declared[conv.name]}" if conv.name in declared else traced.opaque or "its kind"
                words = f"{traced.units} channels, never cut: {reason}"
            lines.append(f"{conv.name}: {words}")
        return "\n".join(lines)
