"""Turn a gated network into a compact one, and prove that nothing else changed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from vsrprune.channels.layout import ConvLayer, Slot
from vsrprune.channels.plan import PrunePlan
from vsrprune.pruning.gates import PrunableNetwork, folded, zero_cut_gates

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def compact(network: NetworkT, plan: PrunePlan) -> NetworkT:
    """A network without gates and without the channels that `plan` cuts; `network` is left as it was.

    It equals `network` with the gates of the cut units at zero: a zero gate makes a channel exactly zero through the
    activations, the pixel shuffle, the warps and the next convolution, so taking it away changes nothing.
    """
    prunable = cast(PrunableNetwork, network)
    smaller: NetworkT = prunable.with_plan(plan)
    # What no plan touches (flow net, unpruned convolutions) is copied as it is; the rest is cut out of folded weights.
    smaller.to(next(network.parameters()))  # device and dtype first: loading would round float64 weights
    state = {name: value for name, value in network.state_dict().items() if name in smaller.state_dict()}
    for conv in prunable.channel_layout(plan.rule).convs:
        weight, bias = folded(network.get_submodule(conv.name))
        outputs = _filters(conv, plan)
        kept = weight.detach()[outputs]
        # A filter of several groups reads as many inputs as before: a depthwise one its channel, another uncut ones.
        state[f"{conv.name}.weight"] = kept[:, _channels(conv.inputs, plan)] if conv.groups == 1 else kept
        state[f"{conv.name}.bias"] = bias.detach()[outputs]
    smaller.load_state_dict(state)
    return smaller


def _channels(slots: tuple[Slot, ...], plan: PrunePlan) -> Tensor:
    """Indices of the kept channels in the concatenation of the slots, as the dense network has it."""
    indices: list[int] = []
    offset = 0
    for slot in slots:
        kept = range(slot.size) if slot.group is None else plan.kept[slot.group]
        indices += [offset + channel for channel in kept]
        offset += slot.size
    return torch.tensor(indices)


def _filters(conv: ConvLayer, plan: PrunePlan) -> Tensor:
    """Indices of the kept filters: every kept output channel brings all the filters it stands for."""
    first = _channels((conv.output,), plan) * conv.filters_per_unit
    return (first[:, None] + torch.arange(conv.filters_per_unit)).flatten()


def equivalence_error(network: nn.Module, plan: PrunePlan, frames_NTCHW: Tensor, dtype: torch.dtype) -> float:
    """As `equivalence_errors`, of one clip."""
    return equivalence_errors(network, plan, [frames_NTCHW], dtype)[0]


@torch.no_grad()
def equivalence_errors(network: nn.Module, plan: PrunePlan, clips: Sequence[Tensor], dtype: torch.dtype) -> list[float]:
    """Largest |difference| between compact and masked network (cut gates at zero), over max |output|, for each clip.

    Clips are (N, T, 3, H, W). Surgery and both forward passes run in `dtype` on copies. In float64 anything above about
    1e-12 is a mistake of surgery; in float32 it is the rounding of the folded weights.
    """
    gated = copy.deepcopy(network).to(dtype).eval()
    smaller = compact(gated, plan).eval()
    zero_cut_gates(cast(PrunableNetwork, gated), plan)
    errors = []
    # TF32 keeps 10 bits of a factor: its rounding is far above what is looked for here.
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        for frames_NTCHW in (clip.to(dtype) for clip in clips):
            expected, got = gated(frames_NTCHW).frames_NTCHW, smaller(frames_NTCHW).frames_NTCHW
            errors.append(float((expected - got).abs().max() / expected.abs().max()))
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
    return errors
