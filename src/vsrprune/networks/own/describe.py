"""Find, build and describe a network of one's own: what the child process of `spec` runs."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsrprune.errors import UserError
from vsrprune.networks.own.own import OwnNetwork
from vsrprune.networks.own.sources import Source, failure, import_source, read_source
from vsrprune.networks.own.spec import DescribedArguments, check_unchanged
from vsrprune.store.atomic import write_json


def main() -> None:
    """Describe what stdin asks for (file, class, arguments); writes the description, or {error}, to argv[1]."""
    asked = json.load(sys.stdin)
    try:
        source = read_source(Path(asked["file"]))
        network = constructed(network_class(source, asked["class"]), asked["arguments"], source)
        answer = network.prepare().arguments.description.to_json()
    except UserError as error:
        answer = {"error": str(error)}
    except SystemExit as error:
        answer = {"error": f"it calls sys.exit({error.code!r}), which would end whatever command uses it"}
    write_json(Path(sys.argv[1]), answer)


def build_own(arguments: DescribedArguments) -> OwnNetwork:
    """A dense network with gates; its declaration was proven when it was described.

    Raises UserError if the source is not the one that was described.
    """
    file, name = arguments.place
    source = read_source(file)
    check_unchanged(source, arguments)
    return constructed(network_class(source, name), arguments.arguments, source).made_prunable(arguments)


def network_class(source: Source, name: str) -> type[OwnNetwork]:
    """A class of a source; without a name the only network in it. Raises UserError where there is no such class."""
    try:
        module = import_source(source)
    except UserError:
        raise
    # SystemExit too: a script may end itself when it is imported.
    except (Exception, SystemExit) as error:
        raise UserError(f"importing it failed {failure(error, source)}") from error
    networks = [
        known
        for known, value in vars(module).items()
        # Classes that the source itself defines, and not those that it imports.
        if isinstance(value, type) and issubclass(value, OwnNetwork) and value.__module__ == module.__name__
    ]
    there = ", ".join(networks) or "none"
    if name and hasattr(module, name):
        kind = getattr(module, name)
        if isinstance(kind, type) and issubclass(kind, OwnNetwork):
            return kind
        raise UserError(f"{name} is no OwnNetwork: derive the class from vsrprune.networks.own.OwnNetwork")
    if name:
        raise UserError(f"there is no {name} in it; networks there: {there}")
    if len(networks) == 1:
        return getattr(module, networks[0])  # type: ignore[no-any-return]
    if networks:
        places = " or ".join(f"{source.file.name}:{known}" for known in networks)
        raise UserError(f"it has several networks; say which: {places}")
    raise UserError("no class in it derives from vsrprune.networks.own.OwnNetwork")


def constructed(kind: type[OwnNetwork], arguments: Mapping[str, Any], source: Source) -> OwnNetwork:
    """A network of a class. Raises UserError for arguments that its constructor does not take, or refuses."""
    # Bound before the call: a TypeError out of the constructor's body is another mistake, and gets other words.
    signature = inspect.signature(kind.__init__)
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        known = ", ".join(list(signature.parameters)[1:]) or "no arguments"
        raise UserError(f"model.arguments do not fit {kind.__name__}, which takes {known}: {error}") from error
    try:
        return kind(**arguments)
    except UserError:
        raise
    except Exception as error:
        words = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UserError(f"{kind.__name__}({words}) failed {failure(error, source)}") from error
