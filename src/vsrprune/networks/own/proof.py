"""Prove a declaration: cut each group in turn, and compare the compact network with the masked one."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vsrprune.channels.layout import RULES, ChannelGroup, ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.network import Network
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.surgery import compact

TOLERANCE = 1e-10  # relative to max |output|, in float64
LENGTHS = (1, 2, 3)  # frames: a first frame, a second, and one that is neither


def prove(network: Network, frames_NTCHW: Tensor) -> None:
    """Raise UserError, which names the group and what is likely wrong, if some cut changes more than rounding.

    Weights are random meanwhile, in a copy: an idle branch (a last convolution of zeros, say) would hide a mistake.
    """
    probe = _randomised(network)
    clips = [frames_NTCHW[:1, : min(length, frames_NTCHW.shape[1])].double().cpu() for length in LENGTHS]
    _check_repeatable(probe, clips[-1])
    for rule in RULES:
        layout = probe.channel_layout(rule)
        _check_prunable(layout)
        for group in layout.groups:
            _prove_group(probe, rule, layout, group, clips)
        # Once more together: groups that are right alone may meet in one convolution.
        everything = {group.name: _half(group) for group in layout.groups}
        plan = PrunePlan.cutting(rule, layout, everything)
        masked, smaller = _masked(probe, plan), compact(probe, plan).eval()
        for clip in clips:
            error = _difference(masked, smaller, clip)
            if not error <= TOLERANCE:
                raise UserError(f"rule {rule}: all groups together differ by {error:.1e}, though each alone does not")
        _prove_states(masked, smaller, clips[-1], f"rule {rule}")


@torch.no_grad()
def _check_repeatable(probe: Network, clip: Tensor) -> None:
    """Raise UserError for a network that no comparison can say anything of."""
    first, second = (probe(clip).frames_NTCHW for _ in range(2))
    if not bool(torch.isfinite(first).all()):
        raise UserError("its output on a clip in [0, 1] is not finite, with random weights of the usual size")
    if not torch.equal(first, second):
        raise UserError("two runs on one clip differ; forward must draw no random numbers where it is in eval mode")


@torch.no_grad()
def _prove_states(masked: Network, smaller: Network, clip: Tensor, where: str) -> None:
    """The hidden states that temporal fine-tuning compares: the compact network's are some of the masked one's."""
    expected, got = masked(clip).hidden, smaller(clip).hidden
    for name, states in got.items():
        kept = smaller.stream_channels(name)
        for whole, state in zip(expected[name], states, strict=True):
            wanted = whole if kept is None else whole[:, list(kept)]
            if wanted.shape != state.shape:
                raise UserError(
                    f"{where}: hidden state {name!r} has {state.shape[1]} of {whole.shape[1]} channels left, and its"
                    " name does not say which; give it the name of the stream that it is, or of the convolution that"
                    " writes it"
                )
            error = float((wanted - state).abs().max() / whole.abs().max().clamp_min(1e-300))
            if not error <= TOLERANCE:
                raise UserError(f"{where}: hidden state {name!r} is not that of its name; it differs by {error:.1e}")


def _check_prunable(layout: ChannelLayout) -> None:
    if not layout.groups:
        raise UserError("nothing can be cut: no convolution's channels are read plainly, and none are declared")


def _prove_group(probe: Network, rule: str, layout: ChannelLayout, group: ChannelGroup, clips: list[Tensor]) -> None:
    # Half of a single channel is none.
    if group.size < 2:
        return
    plan = PrunePlan.cutting(rule, layout, {group.name: _half(group)})
    where = f"rule {rule}, group {group.name} ({group.size} channels)"
    masked = _masked(probe, plan)
    smaller = compact(probe, plan).eval()
    moved = False
    for clip in clips:
        with _explained(smaller, layout, group, where):
            error = _difference(masked, smaller, clip)
        # Written with `not`, so that NaN fails too.
        if not error <= TOLERANCE:
            raise UserError(f"{where}: {_unequal(layout, group)}; the two networks differ by {error:.1e}")
        moved = moved or _difference(probe, masked, clip) > TOLERANCE
    if not moved:
        raise UserError(f"{where}: its channels at zero change nothing; is {group.gates[0].conv} what you meant?")


def _randomised(network: Network) -> Network:
    # In float64, so that a difference is a wrong declaration and not rounding.
    probe = copy.deepcopy(network).cpu().double().eval()
    generator = torch.Generator().manual_seed(0)
    gates = {id(gate) for gate in probe.gate_parameters()}
    with torch.no_grad():
        for parameter in probe.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            if id(parameter) in gates:
                # No gate near zero, where it would not show what becomes of its channel.
                parameter.copy_(noise.sign() * (0.5 + noise.abs()))
            elif parameter.ndim > 1:
                # Scaled by the fan-in, so that activations neither vanish nor explode in deep networks.
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.2 * noise)
    return probe


def _half(group: ChannelGroup) -> list[int]:
    """Half of a group's channels, not in a run: a shift of the others would not go unnoticed."""
    draw = np.random.default_rng(group.size)
    return sorted(draw.choice(group.size, group.size // 2, replace=False).tolist())


def _masked(probe: Network, plan: PrunePlan) -> Network:
    masked = copy.deepcopy(probe)
    zero_cut_gates(masked, plan)
    return masked


@torch.no_grad()
def _difference(one: Network, other: Network, clip: Tensor) -> float:
    expected, got = one(clip).frames_NTCHW, other(clip).frames_NTCHW
    return float((expected - got).abs().max() / expected.abs().max())


@contextmanager
def _explained(smaller: Network, layout: ChannelLayout, group: ChannelGroup, where: str) -> Iterator[None]:
    """Turn a mismatch of shapes in the compact network into words about the declaration."""
    entered: list[tuple[str, nn.Conv2d, int]] = []

    def enter(name: str) -> Any:
        return lambda module, inputs: entered.append((name, module, inputs[0].shape[1]))

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        entered.pop()

    handles = []
    for name, module in smaller.named_modules():
        if isinstance(module, nn.Conv2d):
            handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:
        if entered:
            raise UserError(f"{where}: {_refused(*entered[-1], layout, group)}") from error
        raise UserError(
            f"{where}: the network fails where a width is not what it was: {_place(error)}: {_line(error)}. Take widths"
            " from modules (self.conv.out_channels) or tensors (x.shape[1]), never from constants"
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _refused(name: str, module: nn.Conv2d, got: int, layout: ChannelLayout, group: ChannelGroup) -> str:
    """Why a convolution got another number of channels than it has inputs."""
    wanted = module.in_channels
    readers = [conv.name for conv in layout.convs if any(slot.group == group.name for slot in conv.inputs)]
    if name in readers:
        return (
            f"{name} reads these channels and has {wanted} inputs left, but got {got} channels; a width stands in the"
            " network as a constant (the zeros of a first state?), or what it reads is declared too often"
        )
    return (
        f"{name} got {got} channels, but has {wanted} inputs: it reads channels of this group and is not declared to;"
        f" add reads({name!r}, ...)"
    )


def _unequal(layout: ChannelLayout, group: ChannelGroup) -> str:
    """What is likely wrong where shapes fit and values do not."""
    joined = [
        conv.name
        for conv in layout.convs
        if len(conv.inputs) > 1 and any(slot.group == group.name for slot in conv.inputs)
    ]
    if joined:
        return (
            f"its channels stand at another place among the inputs of {' or '.join(joined)} than reads() says; compare"
            " the order there with the concatenation in forward()"
        )
    return (
        "a channel of zeros does not stay one on its way to those who read it (a sigmoid, a normalisation, a constant"
        " that is added?), or somebody reads it who is not declared; declare whole() for it, or the reader"
    )


def _place(error: BaseException) -> str:
    """The line of the network's own code in which an error arose."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "torch/" not in frame.filename]
    frame = frames[-1]
    return f"{frame.filename}:{frame.lineno} ({(frame.line or '').strip()})"


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
