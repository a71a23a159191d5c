"""A network that lies in a stage's folder, without torch until it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

# For type checkers only: importing the class would bring torch to whoever opens an artifact.
if TYPE_CHECKING:
    from vsrprune.networks.network import Network


@dataclass(frozen=True)
class SavedNetwork:
    """A network on disk."""

    folder: Path

    def load(self) -> Network:
        """The network, newly read."""
        # Imported here, so that collecting the results of a finished sweep needs no torch.
        from vsrprune.networks.files import load_network

        return load_network(self.folder)


class WithNetwork(Protocol):
    """The artifact of a stage that leaves a network."""

    @property
    def network(self) -> SavedNetwork:
        """The network as the stage left it."""


@dataclass(frozen=True)
class Trained:
    """What a stage leaves that trains, and nothing else: the network, and its curves in metrics.jsonl."""

    network: SavedNetwork

    def save(self, folder: Path) -> None:
        """The network was written by the work."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The network of this folder."""
        return cls(SavedNetwork(folder))
