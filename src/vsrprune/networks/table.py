"""Every family of networks by its name: the one place that lists them. Imports no torch until one is built.

What is particular to a family stands in its folder, and is named here as "module:name", loaded when it is needed.
Whoever uses networks asks the traits of their arguments (`Traits`), never which network it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsrprune.channels.layout import ChannelLayout
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.networks.basicvsr_pp.spec import BasicVSRPPArguments, basicvsr_pp_layout
from vsrprune.networks.edsr_rcan.spec import EDSRArguments, RCANArguments, edsr_layout, rcan_layout
from vsrprune.networks.edvr.spec import EDVRArguments, edvr_layout
from vsrprune.networks.own.spec import OwnArguments, own_layout
from vsrprune.networks.parts.published import PublishedNames
from vsrprune.networks.rrn.spec import RRNArguments, rrn_layout

if TYPE_CHECKING:
    from vsrprune.networks.network import Network


@dataclass(frozen=True)
class Family:
    """A kind of network.

    `arguments` is the dataclass of everything that shapes it, with its `Traits`; `layout` gives its channels from
    arguments and a residual rule. The others name functions or classes: `network` makes a dense network from arguments,
    `weights` gives the names of published weights by project, `frozen` makes the form that runs fastest (see
    `fast.fastest`), and `export` divides a network into graphs (see `graph.divide`). The last three are empty where a
    family has nothing of its own.
    """

    arguments: type[Any]
    layout: Callable[[Any, str], ChannelLayout]
    network: str
    weights: str = ""
    frozen: str = ""
    export: str = ""

    def published(self, arguments: Any) -> dict[str, PublishedNames]:
        """By project the names of published weights; empty if nobody has published any."""
        names: dict[str, PublishedNames] = loaded(self.weights)(arguments) if self.weights else {}
        return names


# Arguments and layouts are named directly, because planning asks for them; the others are texts, because their modules
# import torch.
FAMILIES: dict[str, Family] = {
    "basicvsr": Family(
        BasicVSRArguments,
        basicvsr_layout,
        "basicvsr.network:BasicVSR",
        weights="basicvsr.weights:published",
        frozen="basicvsr.frozen:FrozenBasicVSR",
        export="basicvsr.export:divide",
    ),
    "basicvsr_pp": Family(
        BasicVSRPPArguments,
        basicvsr_pp_layout,
        "basicvsr_pp.network:BasicVSRPlusPlus",
        weights="basicvsr_pp.weights:published",
    ),
    "edvr": Family(
        EDVRArguments,
        edvr_layout,
        "edvr.network:EDVR",
        weights="edvr.weights:published",
        export="edvr.export:divide",
    ),
    "rrn": Family(
        RRNArguments,
        rrn_layout,
        "rrn.network:RRN",
        weights="rrn.weights:published",
        frozen="rrn.frozen:FrozenRRN",
        export="rrn.export:divide",
    ),
    "edsr": Family(
        EDSRArguments,
        edsr_layout,
        "edsr_rcan.network:EDSR",
        weights="edsr_rcan.weights:published_edsr",
        export="edsr_rcan.export:divide",
    ),
    "rcan": Family(
        RCANArguments,
        rcan_layout,
        "edsr_rcan.network:RCAN",
        weights="edsr_rcan.weights:published_rcan",
        export="edsr_rcan.export:divide",
    ),
    "own": Family(OwnArguments, own_layout, "own.describe:build_own", export="own.export:divide"),
}


def family_name(arguments: Any) -> str:
    """The name of the family that these arguments are of. Raises ValueError if there is none."""
    for name, family in FAMILIES.items():
        # isinstance, since the arguments of a described network of one's own are of a subclass.
        if isinstance(arguments, family.arguments):
            return name
    raise ValueError(f"{type(arguments).__name__} shapes none of {', '.join(FAMILIES)}")


def family_of(arguments: Any) -> Family:
    """The family that these arguments are of. Raises ValueError if there is none."""
    return FAMILIES[family_name(arguments)]


def build(arguments: Any) -> Network:
    """A dense network with gates, newly initialised, of the family that the arguments are of."""
    network: Network = loaded(family_of(arguments).network)(arguments)
    return network


def identity_of(arguments: Any) -> dict[str, Any]:
    """What a content key holds of a network, as JSON: two networks share a stage's result if this is equal."""
    return {"network": family_name(arguments), **arguments.identity}


def prepared(arguments: Any, folder: Path) -> Any:
    """The arguments with all that is to be known of the network before it is built; see `Traits.prepared`."""
    return arguments.prepared(folder)


def loaded(place: str) -> Any:
    """What "module:name" names in the folder of the networks."""
    # Imported here and not at the top: the parent of a sweep reads this table, and the modules named in it import
    # torch.
    module, name = place.split(":")
    return getattr(import_module(f"vsrprune.networks.{module}"), name)
