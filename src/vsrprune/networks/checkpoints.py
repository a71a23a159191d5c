"""Checkpoints of other projects as dense networks: .safetensors, .pth and .pt.

Pickles are read by PyTorch's reader of plain tensors, which runs no code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from vsrprune.errors import UserError
from vsrprune.networks.files import load_exactly, read_weights
from vsrprune.networks.network import Network
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.networks.parts.published import (
    FLOW_CONSTANTS,
    FLOW_LAYOUTS,
    PREFIXES,
    WRAPPERS,
    PublishedNames,
    flow_tensors,
    likeliest,
)
from vsrprune.networks.table import build, family_of

OWN = "vsrprune"
TORCH_SUFFIXES = (".pth", ".pt")


def load_dense(file: Path, arguments: Any, say: Callable[[str], None] = lambda text: None) -> Network:
    """A dense, gated network from a checkpoint of a project that publishes such; gates that it lacks are 1.

    `say` is told which layout, and which of several sets of weights, was read. Raises UserError naming the first
    missing and unexpected weights and shapes, by the file's own names, if the file holds another architecture.
    """
    weights, part = read_checkpoint(file)
    network = build(arguments)
    known = {
        OWN: PublishedNames({name: name for name in network.state_dict()}),
        **family_of(arguments).published(arguments),
    }
    # A file does not say which project wrote it: the one whose names it shares most is taken, so that errors can speak
    # in that project's names.
    layout = likeliest({name: names.names for name, names in known.items()}, weights.keys())
    if known[layout].refusal:
        raise UserError(f"{file}: {known[layout].refusal}")
    optional = network.optional_tensors()
    named = known[layout].names
    table = {**named, **{name: name for name in optional if name not in named.values()}}
    given = {name: value for name, value in weights.items() if name not in known[layout].constants}
    given |= {name: given[name].flatten() for name, ours in table.items() if name in given and ours in optional}
    # Other projects have no gates: these keep the value 1 of a new network. All other weights must be there.
    lacking = {name: optional[ours] for name, ours in table.items() if ours in optional}
    load_exactly(network, {**lacking, **given}, file, table)
    say(f"{file}: weights in {layout}'s layout{part}")
    return network


def load_flow(file: Path, network: Network, say: Callable[[str], None] = lambda text: None) -> None:
    """Replace a network's flow net by a SPyNet checkpoint in one of the `FLOW_LAYOUTS`; errors as `load_dense`."""
    weights, part = read_checkpoint(file)
    flow_net = network.flow_net
    assert isinstance(flow_net, SPyNet), "a network without one was refused before"
    levels, convs, ours = len(flow_net.levels), flow_net.convs, FLOW_LAYOUTS[OWN]
    tables = {name: flow_tensors(template, ours, levels, convs) for name, template in FLOW_LAYOUTS.items()}
    layout = likeliest(tables, weights.keys())
    known = {name: value for name, value in weights.items() if name not in FLOW_CONSTANTS}
    load_exactly(flow_net, known, file, tables[layout])
    say(f"{file}: flow net in {layout}'s layout{part}")


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors in float32 without the wrapper and prefixes of their project, and words about which were taken."""
    if file.suffix in TORCH_SUFFIXES:
        weights, part = _unwrapped(_read_pickled(file), file)
    else:
        weights, part = read_weights(file), ""
    # Where a prefix occurs, only what stands under it counts: a training checkpoint holds an averaged generator beside
    # the trained one.
    for prefix in PREFIXES:
        inside = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        part += f", of {prefix.removesuffix('.')}" if inside else ""
        weights = inside or weights
    broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise UserError(f"{file}: {len(broken)} weights are NaN or infinite: {', '.join(broken[:3])}")
    return weights, part


def _read_pickled(file: Path) -> Any:
    if not file.is_file():  # a named pipe would be waited for without end
        raise UserError(f"{file}: there is no such file")
    try:
        # On the CPU, whatever device the file was saved from. weights_only, because a pickle can run any code.
        return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{file}: cannot read these weights as plain tensors ({_first_line(error)}); if you trust the file, load it"
            " with torch.load(..., weights_only=False) and save its state dict alone, as .safetensors"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, LookupError) as error:
        raise UserError(f"{file}: cannot read these weights ({_first_line(error)})") from error


def _unwrapped(content: Any, file: Path) -> tuple[dict[str, Tensor], str]:
    wrappers = [name for name in WRAPPERS if isinstance(content, dict) and name in content]
    values = content[wrappers[0]] if wrappers else content
    weights = {}
    if isinstance(values, dict):
        _check_plain(values, file)
        weights = {str(name): value.float() for name, value in values.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"{file}: no weights in it; tensors by name are expected, or such under {', '.join(WRAPPERS)}")
    left = f" instead of {', '.join(wrappers[1:])}" if wrappers[1:] else ""
    return weights, f", under {wrappers[0]}{left}" if wrappers else ""


def _check_plain(values: Mapping[Any, Any], file: Path) -> None:
    """Raise UserError for tensors that are no plain numbers, or take more memory than the file has of them."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            continue
        if value.is_quantized or value.layout != torch.strided or value.is_complex() or value.is_meta:
            raise UserError(f"{file}: {name} is quantised, sparse, complex or empty; plain weights are expected")
        # An expanded tensor repeats few numbers: terabytes in a file of a kilobyte.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{file}: {name} {tuple(value.shape)} holds fewer numbers than it has places")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
