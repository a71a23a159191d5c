"""Every network by the name of its architecture."""

from __future__ import annotations

from typing import Any

from vsrprune.networks.architectures import architecture_of
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr_pp.network import BasicVSRPlusPlus
from vsrprune.networks.edsr_rcan.network import EDSR, RCAN
from vsrprune.networks.edvr.network import EDVR
from vsrprune.networks.network import Network
from vsrprune.networks.rrn.network import RRN

NETWORKS: dict[str, type[Network]] = {
    "basicvsr": BasicVSR,
    "basicvsr_pp": BasicVSRPlusPlus,
    "edvr": EDVR,
    "rrn": RRN,
    "edsr": EDSR,
    "rcan": RCAN,
}


def build(arguments: Any) -> Network:
    """A dense network with gates, newly initialised, of the architecture that the arguments are of."""
    return NETWORKS[architecture_of(arguments)](arguments)  # type: ignore[call-arg]
