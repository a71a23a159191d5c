"""The only file that knows TensorBoard: event files in a job's folder, by TensorBoard's own writer (no torch)."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from vsrprune.host.tracking.shown import crop_files, layer_heatmap, measured_in, summary_of
from vsrprune.host.tracking.tracker import Parts, RunLabel, one_line, values_of, written_rows
from vsrprune.results.result import Result
from vsrprune.results.settings import flatten

PATTERN = "events.out.tfevents.*"  # the name that TensorBoard looks for
VERSION = "brain.Event:2"  # the first event of every file

Scalar = tuple[str, int]  # tag and step


class TensorBoardTracker:
    """Event files of one job: curves by stage, the configuration as hyperparameters, the summary, layers, crops.

    A job that is taken up again goes on in a file of its own, without what the files of before hold. At the end one
    file, with everything, takes the place of all of them.
    """

    def __init__(self, label: RunLabel, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]) -> None:
        self._label, self._config, self._folder = label, config, folder
        self._parts = Parts("tensorboard", warn)
        self._older = sorted(folder.glob(PATTERN))
        self._logged: set[Scalar] = set()
        self._parts.call("steps of before", lambda: self._logged.update(scalars_in(self._older)))
        self._file = EventFile(self._folder)
        if not self._older:  # it stands once in a run
            self._parts.call("configuration", self._log_config)

    def row(self, row: Mapping[str, Any]) -> None:
        """Write the values of a row under the name of its stage."""
        self._parts.call("curves", lambda: self._log_row(row))

    def finished(self, result: Result, folder: Path) -> None:
        """Write the rest of the curves, the summary, the layers and the crops."""
        if self._older:
            self._parts.call("older files", self._start_over)
        self._parts.call("curves", lambda: self._log_rest(folder))
        self._parts.call("summary", lambda: self._log_summary(result, folder))
        self._parts.call("table of layers", lambda: self._log_layers(result))
        self._parts.call("heatmap of layers", lambda: self._log_image("layers/heatmap", layer_heatmap(result)))
        self._parts.call("crops", lambda: self._log_crops(folder))
        if not self._parts.lost:
            self._parts.call("older files", self._drop_older)

    def close(self, failed: bool) -> None:
        """Close the file."""
        self._parts.call("end of the run", self._file.close)

    def _start_over(self) -> None:
        self._file.close()
        self._older = sorted(self._folder.glob(PATTERN))
        self._file = EventFile(self._folder)
        self._logged.clear()
        self._log_config()

    def _drop_older(self) -> None:
        for path in self._older:
            path.unlink()

    def _log_config(self) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        knobs = flatten(self._config)
        plain = {name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in knobs.items()}
        self._add(hparams_pb(plain, trial_id=self._label.name))

    def _log_rest(self, folder: Path) -> None:
        for row in written_rows(folder):
            self._log_row(row)

    def _log_row(self, row: Mapping[str, Any]) -> None:
        step = row.get("step", 0)
        self._log_scalars({f"{row['stage']}/{name}": value for name, value in values_of(row)}, step)

    def _log_scalars(self, values: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        new = {tag: value for tag, value in values.items() if (tag, step) not in self._logged}
        if new:
            self._add(Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in new.items()]), step)
            self._logged.update((tag, step) for tag in new)

    def _log_summary(self, result: Result, folder: Path) -> None:
        values = summary_of(result, measured_in(folder))
        self._log_scalars({f"summary/{name}": value for name, value in values.items()}, 0)

    def _log_layers(self, result: Result) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        rows: list[Iterable[Any]] = [("layer", "part", "kind", "kept", "total"), ["---"] * 5]
        rows += [(layer.name, layer.part, layer.kind, layer.kept, layer.total) for layer in result.layers]
        table = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
        text = make_tensor_proto([table])
        metadata = create_summary_metadata("layers", "")
        self._add(Summary(value=[Summary.Value(tag="layers", metadata=metadata, tensor=text)]))

    def _log_image(self, tag: str, image: Image.Image) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        stream = io.BytesIO()
        image.save(stream, "PNG")
        shown = Summary.Image(width=image.width, height=image.height, encoded_image_string=stream.getvalue())
        self._add(Summary(value=[Summary.Value(tag=tag, image=shown)]))

    def _log_crops(self, folder: Path) -> None:
        for caption, path in crop_files(folder / "crops").items():
            with Image.open(path) as image:
                self._log_image(f"crops/{caption.replace(': ', '/')}", image)

    def _add(self, summary: Any, step: int = 0) -> None:
        self._file.add(step=step, summary=summary)


class EventFile:
    """A new event file in `folder`, in which every event is as soon as it is added.

    Not TensorBoard's EventFileWriter, which loses the last seconds to a kill, and prints
    a traceback on a full disk.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        seconds, rest = divmod(time.time_ns(), 10**9)  # files are read in the order of their names
        name = PATTERN.replace("*", f"{seconds:010d}.{socket.gethostname()}.{os.getpid()}.{rest:09d}")
        self._writer = RecordWriter((folder / name).open("xb"))
        self.add(file_version=VERSION)

    def add(self, **content: Any) -> None:
        """Write an event of now."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.write(Event(wall_time=time.time(), **content).SerializeToString())
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def start_tensorboard(
    mode: str, label: RunLabel, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]
) -> TensorBoardTracker | None:
    """The tracker of the job in `folder`; None where TensorBoard cannot start, which is said."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return TensorBoardTracker(label, config, folder, warn)
    except (ImportError, OSError) as error:
        warn(f"tracking: tensorboard could not start ({one_line(error)}); going on without it")
        return None


def scalars_in(paths: Iterable[Path]) -> set[Scalar]:
    """Tag and step of every scalar that stands whole in event files; what a kill tore at the end is left out."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    events = (event for path in paths for event in LegacyEventFileLoader(str(path)).Load())
    return {
        (value.tag, event.step)
        for event in events
        if event.HasField("summary")
        for value in event.summary.value
        if value.HasField("simple_value")
    }
