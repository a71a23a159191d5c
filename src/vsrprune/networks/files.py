"""Networks as files: weights in safetensors, arguments and plan in JSON beside them; never pickles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.knobs import check_knobs
from vsrprune.networks.network import Network
from vsrprune.networks.own.spec import OwnArguments
from vsrprune.networks.table import FAMILIES, build, family_name
from vsrprune.store.atomic import read_json, write_json

WEIGHTS, DESCRIPTION = "network.safetensors", "network.json"


def save_network(network: Network, folder: Path | str) -> None:
    """Write network.safetensors and network.json; the latter names the arguments and, if pruned, the kept channels.

    The source of a network of one's own is written beside them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(network, folder)
    plan = None if network.plan is None else network.plan.to_json()
    arguments = network.arguments
    described = {"network": family_name(arguments), "arguments": arguments.save(folder), "plan": plan}
    write_json(folder / DESCRIPTION, described)


def write_weights(network: nn.Module, folder: Path) -> None:
    """Write network.safetensors alone."""
    # safetensors takes only contiguous tensors, and a network may have been put into channels_last.
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    # Not save_file: it hides a full disk in an error of its own, and others may not read what it writes.
    (folder / WEIGHTS).write_bytes(save(weights))


def load_network(folder: Path | str) -> Network:
    """The network that `save_network` wrote into `folder`.

    Of a network of one's own this runs the source that lies there. Raises UserError where there is no such network, or
    one whose weights are not all finite.
    """
    folder = Path(folder)
    description, file = _read_description(folder / DESCRIPTION), folder / WEIGHTS
    try:
        name, plan = description["network"], description["plan"]
        arguments = FAMILIES[name].arguments.load(description["arguments"], folder)
        check_knobs(arguments)  # before anything is built: a billion blocks would take all memory
        if not isinstance(arguments, OwnArguments):  # whose source may do without meta tensors
            with torch.device("meta"), _ShapesAlone():  # takes no memory, whatever sizes are described
                _check_names(_described(arguments, plan).state_dict(), _header(file), file)
        network = _described(arguments, plan)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / DESCRIPTION}: this does not describe a network ({error!r})") from error
    weights = read_weights(file)
    refuse_not_finite(weights, file)
    load_exactly(network, weights, file)
    return network


class _ShapesAlone(TorchFunctionMode):
    """Leaves out what is done in place: no values are drawn and scaled.

    On the meta device such an operation makes PyTorch import eight hundred modules: a second, and 75 MB.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As PyTorch asks."""
        given, name = kwargs or {}, getattr(func, "__name__", "")
        changed = args[0] if args else given.get("tensor")  # as nn.init names it
        in_place = name.endswith("_") and not name.endswith("__") and isinstance(changed, Tensor)
        return changed if in_place else func(*args, **given)


def _described(arguments: Any, plan: Any) -> Network:
    network = build(arguments)
    # Before weights are loaded: their shapes are those of the cut network.
    return network if plan is None else network.with_plan(PrunePlan.from_json(plan))


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, in float32."""
    with _readable(file):
        return {name: value.float() for name, value in load_file(file).items()}


def refuse_not_finite(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise UserError naming the first weights that are infinite or no numbers."""
    wild = [name for name, value in weights.items() if not value.isfinite().all()]
    if wild:
        count = f" ({len(wild)} in all)" if len(wild) > 1 else ""
        raise UserError(f"{file}: weights are NaN or infinite: {', '.join(wild[:3])}{count}; take another file")


def _header(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file as meta tensors; it is refused where its header does not fit its length."""
    with _readable(file), safe_open(file, framework="pt") as stream:
        names = stream.keys()
        shapes = {name: stream.get_slice(name).get_shape() for name in names}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    if not file.is_file():  # a named pipe would be waited for without end
        raise UserError(f"{file}: there is no such file; a .safetensors file is expected")
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot read these weights ({error}); a .safetensors file is expected") from error


def load_exactly(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    file: Path,
    table: Mapping[str, str] | None = None,
    remark: str = "",
) -> None:
    """Load weights by their names in the file; `table` maps these to the network's, where they differ.

    Raises UserError naming the first missing and unexpected weights and shapes, with the remark behind.
    """
    _check_names(network.state_dict(), weights, file, table, remark)
    network.load_state_dict({(table or {}).get(name, name): value for name, value in weights.items()})


def _check_names(
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    file: Path,
    table: Mapping[str, str] | None = None,
    remark: str = "",
) -> None:
    # Checked here and not by load_state_dict, which would complain in this project's names instead of the file's.
    expected = {name: own[ours] for name, ours in (table or {name: name for name in own}).items()}
    complaints = []
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    shapes = [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    for words, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if names:
            complaints.append(f"{len(names)} {words}: {', '.join(names[:3])}")
    if complaints:
        raise UserError(f"{file}: these weights are of another network ({'; '.join(complaints)}){remark}")


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read the network's description ({error})") from error
    name = description.get("network") if isinstance(description, dict) else None
    if name not in FAMILIES:
        raise UserError(f"{path}: unknown network {name!r}; known: {', '.join(FAMILIES)}")
    return description
