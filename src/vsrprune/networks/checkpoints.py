"""Checkpoints of other projects as dense networks: .safetensors, .pth, .pt, .ckpt and .pth.tar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsrprune.errors import UserError
from vsrprune.networks.files import load_exactly, refuse_not_finite
from vsrprune.networks.foreign import FoundWeights, find_weights
from vsrprune.networks.network import Network
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.networks.parts.published import FLOW_CONSTANTS, FLOW_LAYOUTS, PublishedNames, finest_names, flow_tensors
from vsrprune.networks.table import build, family_of

OWN = "vsrprune"
OWN_FLOW = FLOW_LAYOUTS[OWN]


def load_dense(file: Path, arguments: Any, say: Callable[[str], None] = lambda text: None) -> Network:
    """A dense, gated network from a checkpoint of a project that publishes such; gates that it lacks are 1.

    `say` is told which layout, and which of several sets of weights, was read. Raises UserError naming the first
    missing and unexpected weights and shapes, by the file's own names, if the file holds another architecture, and the
    first weights that are integers, infinite or no numbers.
    """
    network = build(arguments)
    known = {
        OWN: PublishedNames({name: name for name in network.state_dict()}, _left_out(network, f"flow_net.{OWN_FLOW}")),
        **family_of(arguments).published(arguments),
    }
    found = find_weights(file, {name: names.names for name, names in known.items()})
    project = known[found.layout]
    if project.refusal:
        raise UserError(f"{file}: {project.refusal}")
    optional = network.optional_tensors()
    table = {**project.names, **{name: name for name in optional if name not in project.names.values()}}
    given = {name: value for name, value in found.tensors.items() if name not in project.constants}
    given |= {name: given[name].flatten() for name, ours in table.items() if name in given and ours in optional}
    given |= {name: given[name] * factor for name, factor in project.factors.items() if name in given}
    # Other projects have no gates: these keep the value 1 of a new network. All other weights must be there.
    lacking = {name: optional[ours] for name, ours in table.items() if ours in optional}
    _load(network, {**lacking, **given}, file, table, found)
    say(f"{file}: weights in {found.layout}'s layout{found.words}")
    return network


def load_flow(file: Path, network: Network, say: Callable[[str], None] = lambda text: None) -> None:
    """Replace a network's flow net by a SPyNet checkpoint in one of the `FLOW_LAYOUTS`; errors as `load_dense`."""
    flow_net = network.flow_net
    assert isinstance(flow_net, SPyNet), "a network without one was refused before"
    levels, convs = len(flow_net.levels), flow_net.convs
    tables = {name: flow_tensors(template, OWN_FLOW, levels, convs) for name, template in FLOW_LAYOUTS.items()}
    found = find_weights(file, tables)
    ignored = {*FLOW_CONSTANTS, *_left_out(network, FLOW_LAYOUTS[found.layout])}
    given = {name: value for name, value in found.tensors.items() if name not in ignored}
    _load(flow_net, given, file, tables[found.layout], found)
    say(f"{file}: flow net in {found.layout}'s layout{found.words}")


def _left_out(network: Network, template: str) -> tuple[str, ...]:
    """The names, by a template, of levels of the flow net that the network does without."""
    flow_net = network.flow_net
    if not isinstance(flow_net, SPyNet):
        return ()
    return finest_names(template, len(flow_net.levels) + flow_net.skipped, flow_net.skipped, flow_net.convs)


def _load(
    module: nn.Module, weights: Mapping[str, Tensor], file: Path, table: Mapping[str, str], found: FoundWeights
) -> None:
    _check_plain(weights, file)
    own, single = module.state_dict(), {name: value.float() for name, value in weights.items()}
    # load_state_dict would take both without a word.
    known = [name for name in weights if name in table and own[table[name]].is_floating_point()]
    whole = [f"{name} ({weights[name].dtype})" for name in known if not weights[name].is_floating_point()]
    if whole:
        count = f" ({len(whole)} in all)" if len(whole) > 1 else ""
        named = f"{', '.join(whole[:3])}{count}"
        raise UserError(f"{file}: weights are no floating-point numbers: {named}; take another file")
    refuse_not_finite({name: single[name] for name in known}, file)
    where = f"; compared with {found.layout}'s layout{found.words}: {found.listing}"
    load_exactly(module, single, file, table, where)


def _check_plain(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise UserError for tensors that are no plain numbers, or take more memory than the file has of them."""
    for name, value in weights.items():
        if value.is_quantized or value.layout != torch.strided or value.is_complex() or value.is_meta:
            raise UserError(f"{file}: {name} is quantised, sparse, complex or empty; plain weights are expected")
        # An expanded tensor repeats few numbers: terabytes in a file of a kilobyte.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{file}: {name} {tuple(value.shape)} holds fewer numbers than it has places")
