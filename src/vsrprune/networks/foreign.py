"""Tensors in files of other projects: every dictionary of tensors, and which of them holds a network's weights.

Pickles are read by PyTorch's reader of plain tensors, which runs no code.
"""

from __future__ import annotations

import re
import sys
import warnings
from _compat_pickle import IMPORT_MAPPING
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vsrprune.errors import UserError
from vsrprune.networks.parts.published import WRAPPERS

Place = tuple[str, ...]  # the keys that lead to a dictionary in a file
Spot = tuple[Place, str]  # a dictionary and a prefix of the names in it
STARTS = (b"PK", b"\x80")  # of what torch.save writes: zip files, and before PyTorch 1.6 pickles
DEEPEST = 4  # of these keys; a file may hold a dictionary that holds itself
# Of Python itself, and no more than data. Their names are read as nothing, as all names of other packages are.
DATA_MODULES = ("argparse", "collections", "copyreg", "datetime", "enum", "pathlib", "types")
DATA_TYPES = ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set")


@dataclass(frozen=True)
class FoundWeights:
    """The weights of a network in a file.

    layout: whose names they have. tensors: by these names, as they were saved, without a prefix. words: where in the
    file they are, to be put after the layout. listing: the file's own names, for errors.
    """

    layout: str
    tensors: dict[str, Tensor]
    words: str
    listing: str


def find_weights(file: Path, tables: Mapping[str, Mapping[str, str]]) -> FoundWeights:
    """The weights in a file, by the tables of names (project -> its names -> ours) of the network that is looked for.

    A file says neither which project wrote it, nor where in it the weights are. Those are taken whose names the tables
    explain most of, whatever key leads to them and whatever prefix they share; of equals the averaged ones, then those
    under a key that is in use for weights. Raises UserError where a file cannot be read, has no tensors, holds none of
    the names, or holds several networks.
    """
    if not file.is_file():  # a named pipe would be waited for without end
        raise UserError(f"{file}: there is no such file")
    inside = _read_dictionaries(file)
    fits = _fits(inside, tables)
    if not fits:
        largest = max(inside.values(), key=len)
        raise UserError(f"{file}: these weights are of another network; none of {_listing(largest)} is a name in it")
    best = _best(fits)
    equal = [spot for spot in best if _preference(spot) == _preference(best[0])]
    if len(equal) > 1:
        spots = " and ".join(_words(*spot).removeprefix(", ") or "by themselves" for spot in equal)
        raise UserError(f"{file}: it holds several networks that fit as well: {spots}; save one of them alone")
    place, prefix = best[0]
    taken = {name.removeprefix(prefix): value for name, value in inside[place].items() if name.startswith(prefix)}
    others = dict.fromkeys(".".join(other) for other, _ in best if other != place)
    rest = _left_out(inside[place], [prefix for other, prefix in best if other == place])
    return FoundWeights(fits[best[0]][1], taken, _words(place, prefix, list(others)) + rest, _listing(inside[place]))


def _fits(
    inside: Mapping[Place, Mapping[str, Tensor]], tables: Mapping[str, Mapping[str, str]]
) -> dict[Spot, tuple[int, str]]:
    """How many names each dictionary has in common, below each prefix, with the likeliest project, and which it is."""
    fits: dict[Spot, tuple[int, str]] = {}
    for place, tensors in inside.items():
        for layout, names in tables.items():
            for prefix, count in _prefixes(tensors, names).items():
                # Not of equals: the order of the tables decides.
                if count > fits.get((place, prefix), (0, ""))[0]:
                    fits[place, prefix] = (count, layout)
    return fits


def _best(fits: Mapping[Spot, tuple[int, str]]) -> list[Spot]:
    """Where most names fit, the preferred ones first."""
    most = max(count for count, _ in fits.values())
    spots = [spot for spot, (count, _) in fits.items() if count == most]
    # What one project calls neuro.conv is conv to another: with and without the prefix they are the same weights.
    inner = {
        (place, prefix)
        for place, prefix in spots
        for other, outer in spots
        if place == other and prefix != outer and prefix.startswith(outer)
    }
    return sorted((spot for spot in spots if spot not in inner), key=_preference)


def _prefixes(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> Counter[str]:
    """How many of the tensors have a known name after each prefix that ends in a dot, or after none."""
    counts: Counter[str] = Counter()
    for name in tensors:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        counts.update(name[:start] for start in starts if name[start:] in names)
    return counts


def _preference(spot: Spot) -> tuple[bool, int]:
    place, prefix = spot
    # Averaged weights are what such networks are published with.
    averaged = "ema" in re.split(r"[^a-z0-9]+", ".".join((*place, prefix)).lower())
    known = bool(place) and place[-1] in WRAPPERS
    return not averaged, WRAPPERS.index(place[-1]) if known else len(WRAPPERS)


def _words(place: Place, prefix: str, others: list[str] | None = None) -> str:
    left = f" instead of {', '.join(others)}" if others else ""
    under = f", under {'.'.join(place)}{left}" if place else ""
    return under + "".join(f", of {part}" for part in prefix.split(".")[:-1])


def _left_out(tensors: Mapping[str, Tensor], prefixes: list[str]) -> str:
    """Words about what stands beside the weights, but for counters and other single numbers."""
    beside = [name for name, value in tensors.items() if value.numel() > 1 and not name.startswith(tuple(prefixes))]
    return f", without {len(beside)} tensors beside them ({', '.join(beside[:2])})" if beside else ""


def _listing(tensors: Mapping[str, Tensor]) -> str:
    names = list(tensors)
    ends = [*names[:3], "...", names[-1]] if len(names) > 4 else names
    return f"the {len(names)} tensors of the file ({', '.join(ends)})"


def _read_dictionaries(file: Path) -> dict[Place, dict[str, Tensor]]:
    """Every dictionary of tensors in a file, as it was saved."""
    if file.name.lower().endswith(".safetensors"):
        try:
            return {(): load_file(file)}
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file}: cannot read these weights ({error}); a .safetensors file is expected") from error
    content, objects = _read_pickled(file)
    found = dict(_dictionaries(content, ()))
    if not found:
        whole = f"; what it names is {', '.join(objects[:3])}" if objects else ""
        raise UserError(
            f"{file}: no weights in it; tensors by name are expected, alone or under any key, such as the state_dict()"
            f" of a network{whole}"
        )
    return found


def _dictionaries(content: Any, place: Place) -> Iterator[tuple[Place, dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or len(place) > DEEPEST:
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for name, value in content.items():
        yield from _dictionaries(value, (*place, str(name)))


class StandIn:
    """What an object of another package is read as: nothing, whatever it was made from."""

    def __init__(self, *_: Any) -> None:
        return

    def __setstate__(self, _: Any) -> None:
        return


def _read_pickled(file: Path) -> tuple[Any, list[str]]:
    """The content of a pickle, and the names in it that were read as nothing."""
    _check_kind(file)
    objects = _foreign_names(file)
    code = [name for name in objects if not _is_data(name)]
    if code:
        raise UserError(_refusal(file, f"it names {', '.join(code[:3])}"))
    try:
        # Training checkpoints hold settings and curves beside the weights: numbers of numpy, objects of their project.
        # Nothing of theirs is imported or called.
        with torch.serialization.safe_globals([(StandIn, name) for name in objects]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickles and TorchScript: the one is read, the other refused below
            # On the CPU, whatever device the file was saved from. weights_only, because a pickle can run any code.
            return torch.load(file, map_location="cpu", weights_only=True), objects
    except UnpicklingError as error:
        own_kind = f"one of {', '.join(objects)} is a list or dictionary of its own kind"
        reason = own_kind if StandIn.__name__ in str(error) else _reason(error)
        raise UserError(_refusal(file, reason)) from error
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file}: cannot read these weights ({_reason(error)}); it is cut off or damaged, fetch it again"
        ) from error


def _check_kind(file: Path) -> None:
    """Raise UserError for what torch.save did not write: mostly a page about a file, or Git's pointer to it."""
    with file.open("rb") as stream:
        start = stream.read(64)
    if not start.startswith(STARTS):
        text = start[:40].decode("ascii", "replace")
        raise UserError(f"{file}: cannot read these weights (the file begins with {text!r}); was it fetched whole?")


def _foreign_names(file: Path) -> list[str]:
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # no zip file, or a damaged one: loading it says what is the matter
        return []


def _is_data(name: str) -> bool:
    """Whether a name of a pickle may be read as nothing: all but what Python itself has to run things."""
    module, _, kind = name.rpartition(".")
    # torch.save writes Python 2's names of modules: commands for subprocess.
    first = IMPORT_MAPPING.get(module, module).split(".")[0]
    if first == "builtins":
        return kind in DATA_TYPES
    return first in DATA_MODULES or first not in sys.stdlib_module_names


def _refusal(file: Path, reason: str) -> str:
    return (
        f"{file}: cannot read these weights as plain tensors ({reason}); if you trust the file, load it with"
        " torch.load(..., weights_only=False) and save its state dict alone, as .safetensors"
    )


def _reason(error: Exception) -> str:
    """What PyTorch says in one line, without colours and advice; the name that it refused, if it names one."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    named = re.search(r"GLOBAL ([\w.]+)", text)
    return f"it names {named[1]}" if named else text.split("\n")[0] or type(error).__name__
