"""Every architecture by name, without torch: its arguments, its channel layout, and who has published its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vsrprune.channels.layout import ChannelLayout
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.networks.basicvsr_pp import spec as basicvsr_pp_channels
from vsrprune.networks.basicvsr_pp.spec import BasicVSRPPArguments, basicvsr_pp_layout
from vsrprune.networks.edsr_rcan.spec import (
    EDSRArguments,
    RCANArguments,
    edsr_layout,
    edsr_names,
    rcan_layout,
    rcan_names,
)
from vsrprune.networks.edvr import spec as edvr_channels
from vsrprune.networks.edvr.spec import EDVRArguments, edvr_layout
from vsrprune.networks.rrn.spec import RRNArguments, released_names, rrn_layout


@dataclass(frozen=True)
class Architecture:
    """What is known of an architecture before it is built.

    arguments: the dataclass that shapes it. layout: its channels, of arguments and a residual rule. names: by the
    project that has published weights, its names of the tensors -> ours, of the arguments.
    """

    arguments: type[Any]
    layout: Callable[[Any, str], ChannelLayout]
    names: dict[str, Callable[[Any], dict[str, str]]]


def architecture_of(arguments: Any) -> str:
    """The name of the architecture that these arguments shape. Raises ValueError if there is none."""
    for name, architecture in ARCHITECTURES.items():
        if type(arguments) is architecture.arguments:
            return name
    raise ValueError(f"{type(arguments).__name__} shapes none of {', '.join(ARCHITECTURES)}")


ARCHITECTURES: dict[str, Architecture] = {
    "basicvsr": Architecture(BasicVSRArguments, basicvsr_layout, {}),  # several; see models.checkpoint_layouts
    "basicvsr_pp": Architecture(
        BasicVSRPPArguments, basicvsr_pp_layout, {"BasicSR": basicvsr_pp_channels.basicsr_names}
    ),
    "edvr": Architecture(EDVRArguments, edvr_layout, {"BasicSR": edvr_channels.basicsr_names}),
    "rrn": Architecture(RRNArguments, rrn_layout, {"RRN": released_names}),
    "edsr": Architecture(EDSRArguments, edsr_layout, {"BasicSR": edsr_names}),
    "rcan": Architecture(RCANArguments, rcan_layout, {"BasicSR": rcan_names}),
}
