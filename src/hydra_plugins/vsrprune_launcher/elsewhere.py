"""Jobs on machines that share no folder with this one: their stages go by the store, their results by the engine."""

from __future__ import annotations

import uuid
from dataclasses import replace

from hydra_plugins.vsrprune_launcher.under_way import SweepJob
from vsrprune.commands import ROOT
from vsrprune.config.job import Config
from vsrprune.host.failures import FailureCard, retry_command
from vsrprune.host.processes import FOLDER
from vsrprune.host.stopping import STOP_AT, stop_all
from vsrprune.store.bucket import is_url


def shares_nothing(config: Config) -> bool:
    """Whether the workers of a sweep need no folder of this machine: its store is in object storage."""
    return config.launcher.name != "local" and is_url(config.store_dir)


class Elsewhere:
    """The jobs of one sweep on such machines."""

    def __init__(self, config: Config) -> None:
        self._store = config.store_dir.rstrip("/")
        self._sweep = uuid.uuid4().hex
        self.root = str(ROOT)  # the checkout that the command was typed in

    @property
    def environment(self) -> dict[str, str]:
        """What tells a job where it is asked to stop."""
        return {STOP_AT: f"{self._store} {self._sweep}"}

    def arguments(self, item: SweepJob) -> list[str]:
        """A job's command, but for its Python; its folder is the worker's."""
        return [word.replace(str(item.folder), FOLDER) for word in item.command[1:]]

    def stop(self) -> None:
        """Ask all jobs of the sweep to write a checkpoint and leave."""
        stop_all(self._store, self._sweep)

    @staticmethod
    def bring(item: SweepJob, code: int, files: dict[str, bytes]) -> int:
        """Put the files of a job that ended into its folder here; its exit code."""
        for name, content in files.items():
            path = item.folder / name
            if not path.resolve().is_relative_to(item.folder.resolve()):
                continue  # no job writes there
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        card = FailureCard.load(item.folder)
        if card is not None:  # it names the folder of another machine
            replace(card, command=retry_command(item.command[1:])).save(item.folder)
        return code
