"""A network of one's own: gates, a layout from its declaration, compact forms, and the proof that they are right."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from vsrprune.channels.layout import RULES, ChannelLayout
from vsrprune.errors import UserError
from vsrprune.networks.network import Flows, Network
from vsrprune.networks.own.declaration import Declaration
from vsrprune.networks.own.proof import prove
from vsrprune.networks.own.sources import read_source
from vsrprune.networks.own.spec import DescribedArguments, Description
from vsrprune.networks.own.tracing import Trace, trace
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.networks.parts.traits import Reach, pyramid_side

# Small, since every cut is proven on it; as many frames as the longest of LENGTHS in proof.py.
TRACED_FRAMES, TRACED_SIZE = 3, (20, 24)


class OwnNetwork(Network):
    """Base class: write `forward` and `channel_groups`, and build convolutions as plain `nn.Conv2d`.

    `forward(frames_NTCHW, flows=None)` returns VSROutput(frames, hidden states by branch, one tensor per frame). Widths
    are taken from modules (`self.first.out_channels`) or tensors, never from constants: they change. `run.py` prepares
    it; in Python, call `prepare`.

    reach: how many frames around it the output of a frame depends on, or a pair (before, after); None for all of them.
    smallest_side: from which height and width of frames on the network works, where an exported graph must know.
    """

    reach: int | Reach | None = None
    smallest_side: int = 1
    _given: tuple[tuple[Any, ...], dict[str, Any]]
    _trace: Trace | None = None
    _new_biases: tuple[str, ...] = ()

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Remembers what its constructor is given, for its description."""
        network = super().__new__(cls)
        object.__setattr__(network, "_given", (given, named))  # nn.Module is not initialised yet
        return network

    def channel_groups(self, rule: str) -> Declaration:
        """What tracing cannot see: streams, recurrent states and concatenations. Nothing, unless overridden."""
        return Declaration(rule)

    def prepare(self, frames_NTCHW: Tensor | None = None) -> Self:
        """Trace the network, check its declaration, add gates, and prove every cut; returns the network itself.

        frames_NTCHW: a clip (1, T, 3, H, W) with T >= 2, small; random ones if not given. Raises UserError that says
        what is declared wrongly, before anything is trained. Random numbers that are drawn later do not depend on it.
        """
        with torch.random.fork_rng(devices=[]):
            frames_NTCHW = _clip() if frames_NTCHW is None else frames_NTCHW
            self._add_gates(frames_NTCHW)
            self.arguments = self._described(frames_NTCHW)
            prove(self, frames_NTCHW)
        return self

    def made_prunable(self, arguments: DescribedArguments) -> Self:
        """What `prepare` makes, without the proof: it was given when the network was described."""
        # As in `prepare`: what is trained must not depend on whether a network was described in this process.
        with torch.random.fork_rng(devices=[]):
            self._add_gates(_clip())
        self.arguments = arguments
        return self

    def _add_gates(self, frames_NTCHW: Tensor) -> None:
        if frames_NTCHW.ndim != 5 or frames_NTCHW.shape[1] < 2:
            raise UserError(f"prepare takes a clip (1, T, 3, H, W) with T >= 2; got {tuple(frames_NTCHW.shape)}")
        others = sorted({str(value.dtype) for value in self.parameters() if value.dtype != torch.float32})
        if others:
            raise UserError(f"networks are trained in torch.float32; this one has parameters in {', '.join(others)}")
        biases = []
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and module.bias is None and not name.startswith("flow_net."):
                module.bias = nn.Parameter(module.weight.new_zeros(module.out_channels))  # a cut unit has one
                biases.append(f"{name}.bias")
        self._new_biases = tuple(biases)
        self._trace = trace(self, frames_NTCHW.to(next(self.parameters())))
        self.add_gates()

    def _described(self, frames_NTCHW: Tensor) -> DescribedArguments:
        """What is known of the network once it was traced."""
        kind, (given, named) = type(self), self._given
        # By name, however they were given, since a saved network is built anew from names and values.
        arguments = inspect.signature(kind.__init__).bind(self, *given, **named).arguments
        arguments.pop(next(iter(arguments)))  # the network itself
        file = Path(inspect.getsourcefile(kind) or "")
        assert self._trace is not None
        description = Description(
            content=read_source(file).content if file.is_file() else "",
            name=kind.__name__,
            scale=self._trace.scale,
            states=self._trace.states,
            has_flow=isinstance(self.flow_net, SPyNet),
            # An author whose network looks equally far to both sides writes one number.
            reach=self.reach if isinstance(self.reach, tuple) else (self.reach, self.reach),
            truncates=_truncates(self, frames_NTCHW),
            smallest_side=max(self.smallest_side, _flow_side(self.flow_net)),
            layouts={rule: self.channel_layout(rule) for rule in RULES},
        )
        return DescribedArguments(f"{file}:{kind.__name__}", arguments, description=description)

    def optional_tensors(self) -> dict[str, Tensor]:
        """See `Network`; biases that the author's convolutions do not have are 0."""
        state = self.state_dict()
        return super().optional_tensors() | {name: torch.zeros_like(state[name]) for name in self._new_biases}

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

    def flows_in_parts(self, frames_NTCHW: Tensor) -> Flows:
        """What `flows` returns of the whole clip: which frames a flow of the author's is of is not known."""
        return self.flows(frames_NTCHW)

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
                kind = "it goes with what it reads" if traced.depthwise else "its kind"
                reason = f"it writes {declared[conv.name]}" if conv.name in declared else traced.opaque or kind
                words = f"{traced.units} channels, never cut: {reason}"
            lines.append(f"{conv.name}: {words}")
        return "\n".join(lines)


def _clip() -> Tensor:
    return torch.rand(1, TRACED_FRAMES, 3, *TRACED_SIZE)


def _truncates(network: OwnNetwork, frames_NTCHW: Tensor) -> bool:
    """Whether windows of a frame change gradients of the hidden states, as they do where `handed_on` is called."""
    probe = copy.deepcopy(network)
    parameters = [parameter for parameter in probe.parameters() if parameter.requires_grad]

    def gradient(window: int) -> Tensor:
        probe.gradient_frames = window
        states = [state for row in probe(frames_NTCHW.to(next(probe.parameters()))).hidden.values() for state in row]
        loss = sum(state.square().mean() for state in states if state.requires_grad)
        if not isinstance(loss, Tensor):
            return torch.zeros(1)
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    whole, ended = gradient(0), gradient(1)
    # More than by rounding.
    return bool((whole - ended).norm() > 1e-4 * whole.norm())


def _flow_side(flow_net: nn.Module | None) -> int:
    return pyramid_side(len(flow_net.levels)) if isinstance(flow_net, SPyNet) else 1
