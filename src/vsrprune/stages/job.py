"""A job: a checked configuration, and the stages that it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsrprune.channels.layout import ChannelLayout
from vsrprune.config.job import Config
from vsrprune.data.cache_folder import CLIPS
from vsrprune.data.sets.layout import FoundClips
from vsrprune.host.devices import Place
from vsrprune.stages.recipe import StagePlan
from vsrprune.store.places import local_folder


def store_folder(config: Config) -> Path:
    """The folder of this machine that holds the store, or what was fetched of one in object storage."""
    return local_folder(config.store_dir, config.store.cache_dir)


@dataclass(frozen=True)
class Job:
    """A configuration that passed every check, and the stages it runs.

    arguments: those of the network, as its family has them. sources: clips on disk; None for the demo data. place:
    where it computes. engines: what its networks are timed in beside PyTorch.
    """

    config: Config
    arguments: Any
    layout: ChannelLayout
    stages: list[StagePlan]
    sources: FoundClips | None
    place: Place = field(default_factory=Place)
    engines: tuple[str, ...] = ()

    @property
    def clip_cache(self) -> Path:
        """The folder in which its clips are decoded, if data.cache asks for that."""
        return Path(self.config.data.cache_dir or store_folder(self.config) / CLIPS).expanduser()

    def stage(self, name: str) -> StagePlan:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)
