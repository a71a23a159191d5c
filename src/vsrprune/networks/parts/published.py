"""How other projects name weights: what every family's table of names looks like, and what several families share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

# The keys that checkpoints mostly keep their weights under; of several the first is taken.
WRAPPERS = ("params_ema", "ema_state_dict", "params", "state_dict")

# SPyNet by itself. {level} counts from the coarsest, {conv} the convolutions of a level, {layer} its activations too.
FLOW_LAYOUTS = {
    "vsrprune": "levels.{level}.{layer}",
    "BasicSR": "basic_module.{level}.basic_module.{layer}",
    "mmagic": "basic_module.{level}.basic_module.{conv}.conv",
}
FLOW_CONSTANTS = ("mean", "std")
SPYNET_CONSTANTS = tuple(f"spynet.{name}" for name in FLOW_CONSTANTS)


@dataclass(frozen=True)
class PublishedNames:
    """The names of a project for the tensors of a dense network.

    names: every one of its names -> ours. constants: tensors of its files that are no weights. factors: by its names,
    what its tensors are multiplied by, where its network works on another range than ours. refusal: why its files do
    not fit a network of these arguments, after the file's name; empty if they do.
    """

    names: Mapping[str, str]
    constants: tuple[str, ...] = ()
    refusal: str = ""
    factors: Mapping[str, float] = field(default_factory=dict)


def tensors(modules: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The names of the weights and biases of convolutions, from those of the convolutions: theirs -> ours."""
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in modules for kind in ("weight", "bias")}


def flow_tensors(theirs: str, ours: str, levels: int, convs: int) -> dict[str, str]:
    """The tensors of a SPyNet of so many levels and convolutions per level, by two templates: theirs -> ours."""
    places = ({"level": level, "conv": conv, "layer": 2 * conv} for level in range(levels) for conv in range(convs))
    return tensors((theirs.format(**place), ours.format(**place)) for place in places)


def finest_names(theirs: str, levels: int, skipped: int, convs: int) -> tuple[str, ...]:
    """A file's names of what a flow net leaves out that skips its finest levels; see `SPyNet`."""
    whole, built = (flow_tensors(theirs, theirs, count, convs) for count in (levels, levels - skipped))
    return tuple(name for name in whole if name not in built)


def likeliest(tables: Mapping[str, Mapping[str, str]], names: Collection[str]) -> str:
    """The project that explains most of a file's names; the first of several."""
    # max keeps the first of equals, so that the order of the tables decides.
    return max(tables, key=lambda project: sum(name in tables[project] for name in names))
