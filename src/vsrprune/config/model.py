"""The group `model`: a preset's name, its network, and the network's own arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vsrprune.errors import UserError
from vsrprune.knobs import FLAT, converted, hints, knob, unknown
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.table import FAMILIES

NETWORKS = tuple(FAMILIES)


def arguments_of(network: str) -> type[Any]:
    """The frozen dataclass of a network's arguments, which is the schema of its files in conf/model."""
    return FAMILIES[network].arguments


def small_arguments() -> BasicVSRArguments:
    """The arguments of basicvsr_small, the default; conf/model/basicvsr_small.yaml reads them from here."""
    # Wide enough that half of the channels take less time, with an upsampler narrow enough not to be most of it.
    return BasicVSRArguments(
        channels=24, blocks=6, upsampler_channels=8, flow_levels=3, flow_kernel=3, flow_widths=(16, 16)
    )


@dataclass
class ModelConfig:
    """A network and its arguments, which are checked and frozen when they are made.

    On the command line arguments stand beside the name: `model.channels=8`.
    """

    name: str = knob("basicvsr_small", "The name of the preset in conf/model, for tables and folders.")
    network: str = knob("basicvsr", "The network that the arguments shape.", choices=NETWORKS)
    arguments: Any = field(default_factory=small_arguments, metadata={FLAT: True})

    @property
    def identity(self) -> dict[str, Any]:
        """What tells a network from others: the preset's name does not."""
        # Lists, since JSON has no tuples: what was read back must equal what was written.
        values = asdict(self.arguments).items()
        return {"network": self.network, **{name: list(v) if isinstance(v, tuple) else v for name, v in values}}


def model_config(values: Mapping[str, Any], scale_kept: bool) -> ModelConfig:
    """The group as composed: `name`, `network` and the network's arguments side by side.

    scale_kept: the task restores frames of full size, so a network with pixel shuffles has none unless it is told to.
    Raises UserError for a network that does not exist, an argument that it does not have, and a wrong value.
    """
    name, network = (values.get(item.name, item.default) for item in fields(ModelConfig)[:2])
    if network not in NETWORKS:
        raise UserError(f"model.network must be one of {', '.join(NETWORKS)}; got {network!r}")
    kind = arguments_of(network)
    kinds = hints(kind)
    given = {key: value for key, value in values.items() if key not in ("name", "network")}
    for key in given:
        if key not in kinds:
            raise _not_read(key, given[key], str(name), [item.name for item in fields(kind)])
    if scale_kept and "upscale_factors" in kinds:
        # Set here and not in conf/task, because some networks have no such argument.
        given.setdefault("upscale_factors", ())
    arguments = kind(**{key: converted(kinds[key], value) for key, value in given.items()})
    return ModelConfig(arguments.called(str(name)), network, arguments)


def _not_read(key: str, value: object, name: str, read: list[str]) -> UserError:
    if not any(key in hints(arguments_of(network)) for network in NETWORKS):
        near = unknown(f"model.{key}", [f"model.{item}" for item in read])
        return UserError(f"{near} model={name} reads {', '.join(read)}")
    return UserError(f"model.{key}={value} is given, but model={name} does not read it; it reads {', '.join(read)}")
