"""What the score stage leaves; a file of its own, since a score reads the selection of the round before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vsrprune.store.atomic import read_json, write_json

FILE = "scores.json"


@dataclass(frozen=True)
class Scores:
    """by_layer: the importance of every unit."""

    by_layer: Mapping[str, NDArray[np.float64]]

    def save(self, folder: Path) -> None:
        """Write scores.json."""
        write_json(folder / FILE, {name: values.tolist() for name, values in self.by_layer.items()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote."""
        values = read_json(folder / FILE)
        return cls({name: np.asarray(scores, dtype=np.float64) for name, scores in values.items()})
