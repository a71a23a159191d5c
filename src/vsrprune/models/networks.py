"""Every network by the name of its architecture."""

from __future__ import annotations

from typing import Any

from vsrprune.models.basicvsr import BasicVSR
from vsrprune.models.basicvsr_pp import BasicVSRPlusPlus
from vsrprune.models.edvr import EDVR
from vsrprune.models.image import EDSR, RCAN
from vsrprune.models.network import Network
from vsrprune.models.rrn import RRN

NETWORKS: dict[str, type[Network]] = {
    "basicvsr": BasicVSR,
    "basicvsr_pp": BasicVSRPlusPlus,
    "edvr": EDVR,
    "rrn": RRN,
    "edsr": EDSR,
    "rcan": RCAN,
}


def build(architecture: str, arguments: Any) -> Network:
    """A dense network with gates, newly initialised."""
    return NETWORKS[architecture](arguments)  # type: ignore[call-arg]


def architecture_of(network: Network) -> str:
    """The name that `build` takes. Raises ValueError for a network that is not among them."""
    for name, kind in NETWORKS.items():
        if type(network) is kind:
            return name
    raise ValueError(f"{type(network).__name__} is none of {', '.join(NETWORKS)}")
