"""Every network by the name of its architecture."""

from __future__ import annotations

from typing import Any

from vsrprune.models.architectures import architecture_of
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


def build(arguments: Any) -> Network:
    """A dense network with gates, newly initialised, of the architecture that the arguments are of."""
    return NETWORKS[architecture_of(arguments)](arguments)  # type: ignore[call-arg]
