"""The rows of a training: its losses and monitors at the steps that are logged, in a JSON-lines file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vsrprune.store.atomic import write_atomically

ROWS = "metrics.jsonl"

OnRow = Callable[[dict[str, Any]], None]


class Rows:
    """Appends {"stage", "step", ...} rows to a file and hands them on."""

    def __init__(self, path: Path, stage: str, on_row: OnRow) -> None:
        self._path, self._stage, self._on_row = path, stage, on_row

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the row of a step, counted from 0; values keep 8 decimals."""
        row = {"stage": self._stage, "step": step, **{name: round(value, 8) for name, value in metrics.items()}}
        with self._path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self._on_row(row)

    def read(self) -> list[dict[str, Any]]:
        """All rows so far; a line that a crash tore is no row."""
        rows = []
        for line in self.text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    def text(self) -> str:
        """All rows so far, as they stand in the file."""
        return self._path.read_text() if self._path.is_file() else ""

    def put_back(self, text: str) -> None:
        """Have the rows that a checkpoint holds and no others: a resumed run writes those after it again."""
        write_atomically(self._path, text)
