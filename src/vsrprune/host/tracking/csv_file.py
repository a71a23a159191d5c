"""One tidy CSV file of a job: `step,stage,name,value`, a line for each value."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vsrprune.host.tracking.shown import measured_in, summary_of
from vsrprune.host.tracking.tracker import Parts, RunLabel, values_of, written_rows
from vsrprune.results.result import Result
from vsrprune.store.atomic import write_atomically

FILE = "tracking.csv"
COLUMNS = ("step", "stage", "name", "value")
SUMMARY, LAYERS = "summary", "layers"  # in the column `stage`, without a step: numbers of the result, units kept

Values = dict[tuple[int | None, str, str], float]  # by step, stage and name


class CsvTracker:
    """Appends the values of a row as they come; at the end the file is written whole, from the job's own files.

    What an earlier process wrote stays, and is not written again.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self._path, self._parts = folder / FILE, Parts("csv", warn)
        self._values: Values = {}
        self._parts.call("curves", self._go_on)

    def row(self, row: Mapping[str, Any]) -> None:
        """Append the values of a row that are not in the file."""
        self._parts.call("curves", lambda: self._append(row))

    def finished(self, result: Result, folder: Path) -> None:
        """Write the file whole: curves of all stages, the summary, and the kept units of every layer."""
        self._parts.call("file", lambda: write_atomically(self._path, text_of(_curves(folder) | _of(result, folder))))

    def close(self, failed: bool) -> None:
        """Nothing: the file is never open between two rows."""

    def _go_on(self) -> None:
        """Take over what an earlier process wrote, without the line that a kill tore."""
        self._values = read(self._path)
        write_atomically(self._path, text_of(self._values))

    def _append(self, row: Mapping[str, Any]) -> None:
        step, stage = row.get("step", 0), row["stage"]
        new = {(step, stage, name): value for name, value in values_of(row) if (step, stage, name) not in self._values}
        if new:
            with self._path.open("a") as stream:
                stream.write(_lines(new))
            self._values |= new


def start_csv(
    mode: str, label: RunLabel, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]
) -> CsvTracker:
    """The tracker of the job in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return CsvTracker(folder, warn)


def read(path: Path) -> Values:
    """The values in a file, empty where there is none; lines that are not whole are left out."""
    text = path.read_text(errors="replace") if path.is_file() else ""
    return dict(_whole(text[: text.rfind("\n") + 1]))


def _whole(text: str) -> Iterator[tuple[tuple[int | None, str, str], float]]:
    for line in csv.reader(io.StringIO(text)):
        with contextlib.suppress(ValueError):  # the heading, and what is damaged
            step, stage, name, value = line
            yield (int(step) if step else None, stage, name), float(value)


def text_of(values: Values) -> str:
    """The content of a file of those values."""
    return ",".join(COLUMNS) + "\n" + _lines(values)


def _lines(values: Values) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for (step, stage, name), value in values.items():
        writer.writerow(("" if step is None else step, stage, name, value))
    return stream.getvalue()


def _curves(folder: Path) -> Values:
    rows = written_rows(folder)
    return {(row.get("step", 0), row["stage"], name): value for row in rows for name, value in values_of(row)}


def _of(result: Result, folder: Path) -> Values:
    values: Values = {(None, SUMMARY, name): value for name, value in summary_of(result, measured_in(folder)).items()}
    return values | {(None, LAYERS, layer.name): layer.kept / layer.total for layer in result.layers}
