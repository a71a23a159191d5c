"""The table of `round_to=auto`: the time of every operation that a plan may need, in every memory format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vsrprune.channels.operations import TimeTable
from vsrprune.stages.recipe import PLACE, Recipe
from vsrprune.store.atomic import read_json, write_json

FILE = "times.json"


@dataclass(frozen=True)
class Inputs:
    """Times depend on shapes alone."""


@dataclass(frozen=True)
class Times:
    """tables: milliseconds of operations, by memory format."""

    tables: Mapping[str, TimeTable]

    def save(self, folder: Path) -> None:
        """Write times.json."""
        write_json(folder / FILE, {name: table.to_json() for name, table in self.tables.items()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        values = read_json(folder / FILE)
        return cls({name: TimeTable.from_json(rows) for name, rows in values.items()})


RECIPE = Recipe(
    name="timing",
    version=5,
    work="vsrprune.stages.timing.work:make",
    inputs=Inputs,
    artifact=Times,
    parents=lambda question, planned: {},
    # The rule and min_kept decide which operations a plan may need.
    depends_on=("facts.model", "rule", "min_kept", *PLACE),
    runs=lambda question: question.config.round_to == "auto",
    alone=lambda config: True,
)
