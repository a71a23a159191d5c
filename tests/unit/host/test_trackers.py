"""Event files and the CSV file: what they hold, what a kill leaves of them, and what goes wrong beside them."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from event_files import read_events, scalars_of
from PIL import Image
from results_made import small_measured, small_result, write_crops

from vsrprune.config.agreement import validate
from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.config.machine import TRACKERS as CHOICES
from vsrprune.errors import UserError
from vsrprune.host.tracking import table
from vsrprune.host.tracking.csv_file import read
from vsrprune.host.tracking.shown import summary_of
from vsrprune.host.tracking.table import EXTRAS, FILES, TRACKERS, Trackers, check_installed, is_tracked, tracked
from vsrprune.host.tracking.tracker import RunLabel
from vsrprune.results.result import HiddenError

LABEL = RunLabel("job", "sweep", "ssl", "vsrprune")
KNOBS = {"ratio": 0.5, "model": {"channels": 16, "bidirectional": True}, "parts": []}
OWN_FILES = ("tensorboard", "csv")
STAGES = ("pretrain", "finetune")
ROWS = [{"stage": stage, "step": step, "loss": step / 8, "gate": 1.5} for stage in STAGES for step in range(4)]
CURVES = {f"{stage}/{name}": [(step, step / 8 if name == "loss" else 1.5) for step in range(4)]
          for stage in STAGES for name in ("loss", "gate")}  # fmt: skip


def curves_in(folder: Path, name: str) -> dict[str, list[tuple[int, float]]]:
    """By stage and name, as that tracker's file has them, in its order."""
    if name == "tensorboard":
        return {tag: points for tag, points in scalars_of(folder).items() if not tag.startswith("summary/")}
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in (folder / "tracking.csv").read_text().splitlines()[1:]:
        step, stage, value_name, value = line.split(",")
        if step:
            curves.setdefault(f"{stage}/{value_name}", []).append((int(step), float(value)))
    return curves


def write_metrics(folder: Path, rows: Sequence[Mapping[str, Any]] = ROWS) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def killed_after(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A process of its own tracks those rows and dies of SIGKILL."""
    process = os.fork()
    if not process:
        with tracked([name], "offline", LABEL, KNOBS, folder, print) as tracker:
            for row in rows:
                tracker.row(row)
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL


def test_the_trackers_are_the_choices_of_the_knob() -> None:
    assert tuple(TRACKERS) == tuple(FILES) == CHOICES


@pytest.mark.parametrize("torn", [0, 9])
@pytest.mark.parametrize("name", OWN_FILES)
def test_a_killed_job_that_goes_on_has_every_step_once(name: str, torn: int, tmp_path: Path) -> None:
    """The kill came after its last checkpoint, perhaps in the middle of a line; it goes on from three steps before."""
    killed_after(tmp_path, name, ROWS[:7])
    (path,) = tmp_path.glob(FILES[name])
    path.write_bytes(path.read_bytes()[: path.stat().st_size - torn])
    with tracked([name], "offline", LABEL, KNOBS, tmp_path, pytest.fail) as tracker:
        for row in ROWS[4:]:
            tracker.row(row)
            assert all(len(dict(points)) == len(points) for points in curves_in(tmp_path, name).values())
        assert {tag: sorted(points) for tag, points in curves_in(tmp_path, name).items()} == CURVES
        write_metrics(tmp_path)
        tracker.finished(small_result(), tmp_path)
    assert curves_in(tmp_path, name) == CURVES
    assert len(list(tmp_path.glob(FILES[name]))) == 1


@pytest.mark.parametrize("name", OWN_FILES)
def test_a_job_that_goes_on_elsewhere_ends_with_the_values_of_its_own_files(name: str, tmp_path: Path) -> None:
    """On a card, steps that are trained again have other last digits; other knobs may have other steps."""
    others = [{**row, "loss": 77.0} for row in ROWS]
    killed_after(tmp_path, name, [*others, {"stage": "finetune", "step": 9, "loss": 1.0}])
    write_metrics(tmp_path)
    with tracked([name], "offline", LABEL, KNOBS, tmp_path, pytest.fail) as tracker:
        tracker.finished(small_result(), tmp_path)
    assert curves_in(tmp_path, name) == CURVES


def test_event_files_hold_configuration_summary_layers_and_pictures(tmp_path: Path) -> None:
    small_measured().save(tmp_path)
    write_crops(tmp_path / "crops", ["walk"])
    with tracked(["tensorboard"], "offline", LABEL, KNOBS, tmp_path, pytest.fail) as tracker:
        tracker.finished(small_result(), tmp_path)
    events = read_events(tmp_path)
    assert dict(scalars_of(tmp_path))["summary/speed_up"] == [(0, 1.5)]
    (layers,) = events.Tensors("layers")
    assert "| trunk.conv1 | trunk | filter | 2 | 4 |" in layers.tensor_proto.string_val[0].decode()
    crops = [f"crops/walk/{kind}" for kind in ("lr", "bicubic", "dense", "pruned", "truth")]
    assert set(events.Tags()["images"]) == {"layers/heatmap", *crops}
    (crop,) = events.Images("crops/walk/dense")
    assert Image.open(io.BytesIO(crop.encoded_image_string)).size == (crop.width, crop.height) == (4, 4)
    knobs = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model.channels" in knobs
    assert b"model.bidirectional" in knobs


def test_the_csv_file_is_tidy(tmp_path: Path) -> None:
    small_measured().save(tmp_path)
    write_metrics(tmp_path, ROWS[:1])
    with tracked(["csv"], "offline", LABEL, KNOBS, tmp_path, pytest.fail) as tracker:
        tracker.finished(small_result(), tmp_path)
    text = (tmp_path / "tracking.csv").read_text()
    assert text.startswith("step,stage,name,value\n0,pretrain,loss,0.0\n0,pretrain,gate,1.5\n,summary,")
    assert text.endswith("\n,layers,trunk.conv1,0.5\n,layers,tail,1.0\n")
    assert ",summary,peak_memory_mib_dense,30.0\n" in text


def test_damaged_lines_of_a_csv_file_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "tracking.csv"
    path.write_bytes(
        b"step,stage,name,value\n0,pretrain,loss,0.5\n1,pretrain\n\xff,\n2,pretrain,loss,0.25\n3,pretrain,loss,0.1"
    )
    assert read(path) == {(0, "pretrain", "loss"): 0.5, (2, "pretrain", "loss"): 0.25}
    assert read(tmp_path / "none.csv") == {}


@pytest.mark.parametrize("name", OWN_FILES)
def test_a_folder_that_takes_no_file_costs_no_job(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    monkeypatch.setattr(Path, "open", full)
    with tracked([name], "offline", LABEL, KNOBS, tmp_path, said.append) as tracker:
        tracker.row(ROWS[0])
        tracker.row(ROWS[1])
        tracker.finished(small_result(), tmp_path)
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert said[0].startswith(f"tracking: {name} ")


def test_what_is_done_for_one_tracker_is_done_for_all() -> None:
    class Noting:
        def __init__(self, name: str) -> None:
            self.row: Callable[..., None] = lambda row: calls.append((name, "row"))
            self.finished: Callable[..., None] = lambda result, folder: calls.append((name, "finished"))
            self.close: Callable[..., None] = lambda failed: calls.append((name, f"close {failed}"))

    calls: list[tuple[str, str]] = []
    trackers = Trackers([Noting("first"), Noting("second")])
    trackers.row(ROWS[0])
    trackers.finished(small_result(), Path())
    trackers.close(True)
    assert calls == [(name, call) for call in ("row", "finished", "close True") for name in ("first", "second")]


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    with tracked([], "offline", LABEL, KNOBS, tmp_path, pytest.fail) as tracker:
        tracker.row(ROWS[0])
        tracker.finished(small_result(), tmp_path)
    assert not list(tmp_path.iterdir())
    assert not any(is_tracked(tmp_path, name) for name in TRACKERS)


@pytest.mark.parametrize("name", EXTRAS)
def test_a_tracker_that_is_not_installed_is_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed(TRACKERS)
    monkeypatch.setattr(table, "find_spec", lambda module: None)
    with pytest.raises(UserError) as refused:
        check_installed(["wandb", name])
    assert str(refused.value) == (
        f"tracking.to={name}: {name} is not installed: pip install -e '.[{name}]', or leave {name} out"
    )


@pytest.mark.parametrize(
    ("to", "words"),
    [
        (["aim"], "tracking.to must be a list of any of wandb, tensorboard, csv; got ['aim']"),
        (["csv", "csv"], "tracking.to must name each tracker once; got ['csv', 'csv']"),
    ],
)
def test_wrong_trackers_are_refused(to: list[str], words: str) -> None:
    with pytest.raises(UserError) as refused:
        validate(with_knobs(Config(), {"tracking.to": to}))
    assert str(refused.value) == words


def test_the_summary_has_memory_hidden_error_and_macs_with_flow() -> None:
    error = {"finetuned": {"backward": HiddenError([0.25, 0.75], None, None)}}
    values = summary_of(replace(small_result(), hidden_error=error), small_measured())
    assert values["hidden_error/finetuned/backward"] == 0.5
    assert values["macs_with_flow"] == 600
    assert values["macs_with_flow_kept"] == 600 / 1100
    assert values["peak_memory_mib_dense"] == 30.0
    assert "peak_memory_mib" not in values  # the device did not tell that of the pruned network
