"""What the rest of the house asks of a network, instead of asking which network it is. Without torch."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Self

Reach = tuple[int | None, int | None]


class Traits:
    """Base of the arguments of every network; a family overrides what differs.

    later: arguments that a family was given after networks of it had been kept. At their defaults they stay out of
    `identity`, so that these networks are still found.
    """

    later: ClassVar[tuple[str, ...]] = ()

    @property
    def scale(self) -> int:
        """Side of the output relative to the input."""
        raise NotImplementedError

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the hidden states; none for networks without memory."""
        return ()

    def state_channels(self, branch: str) -> int:
        """Channels of a branch's hidden state in the dense network."""
        return self.channels  # type: ignore[attr-defined,no-any-return]  # every recurrent network here has one width

    def called(self, preset: str) -> str:
        """What tables and labels call the network: the name of its preset, unless its arguments name it."""
        return preset

    @property
    def has_flow(self) -> bool:
        """Whether the network holds a SPyNet (`network.flow_net`) that a pretrained one can replace."""
        return False

    @property
    def prunes_flow(self) -> bool:
        """Whether the channels of that SPyNet are units too; it then counts as a part of the network everywhere."""
        return False

    @property
    def trains_flow_alone(self) -> bool:
        """Whether that SPyNet reads neighbouring frames as they are, so that it can be trained on them by itself."""
        return self.has_flow

    @property
    def reach(self) -> Reach:
        """How many frames before and after it the output of a frame depends on; None is all of them."""
        return (None, None)

    @property
    def goes_back(self) -> bool:
        """Whether the output of a frame depends on all frames after it, as in bidirectional networks."""
        return self.reach[1] is None

    @property
    def hands_on_state(self) -> bool:
        """Whether a step takes all that a frame needs to know of earlier frames from the frame before."""
        return False

    @property
    def truncates(self) -> bool:
        """Whether the network reads states through `Network.handed_on`, which can end their gradients."""
        return False

    @property
    def runs_in_engines(self) -> bool:
        """Whether exported graphs serve clips of any length: those of steps, or of frames that stand alone."""
        return False

    @property
    def smallest_side(self) -> int:
        """Height and width of a frame from which on an exported graph computes what the network does."""
        return 1

    @property
    def identity(self) -> dict[str, Any]:
        """What tells this network from others of its family, as JSON; content keys hold it."""
        defaults = {item.name: item.default for item in fields(self)}  # type: ignore[arg-type]  # every subclass is a dataclass
        values = asdict(self)  # type: ignore[call-overload]
        return {name: value for name, value in values.items() if name not in self.later or value != defaults[name]}

    def prepared(self, folder: Path) -> Self:
        """The arguments with all that is to be known of the network; `folder` remembers what takes long to find out."""
        return self

    def save(self, folder: Path) -> dict[str, Any]:
        """The arguments as JSON, for `load`; files that belong to the network too are written into `folder`."""
        return self.identity

    @classmethod
    def load(cls, values: dict[str, Any], folder: Path) -> Self:
        """The arguments that `save` wrote. Raises TypeError or ValueError for values that it did not write."""
        return cls(**values)


def pyramid_side(levels: int) -> int:
    """The smallest side for a pyramid of so many levels: below, the coarsest would be a pixel, a special case."""
    return int(2 ** (levels - 1) + 1)
