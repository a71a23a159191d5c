"""The mirror to Weights & Biases never costs a job."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from results_made import KINDS, small_measured, small_result, write_crops

from vsrprune.host.tracking.shown import BRIGHT, CELL_HEIGHT, CUT, DARK, crop_files, layer_heatmap, summary_of
from vsrprune.host.tracking.table import tracked
from vsrprune.host.tracking.tracker import RunLabel
from vsrprune.host.tracking.wandb_runs import WandbTracker, lasting_run_id
from vsrprune.methods.table import METHODS
from vsrprune.results.measured import MEASURED
from vsrprune.results.result import Result

HALFWAY = tuple((bright + dark) // 2 for bright, dark in zip(BRIGHT, DARK, strict=True))


class BrokenRun:
    """A wandb run whose `log` fails."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append("define_metric")

    def log(self, values: Any) -> None:
        self.calls.append("log")
        raise ConnectionError("the service process is gone\nand more")

    def finish(self, exit_code: int) -> None:
        self.calls.append("finish")


def test_a_broken_run_is_said_once_and_asked_for_no_more_curves() -> None:
    run, said = BrokenRun(), []
    tracker = WandbTracker(run, said.append)
    for step in range(3):
        tracker.row({"stage": "pretrain", "step": step, "loss": 1.0})
    assert said == ["tracking: wandb did not take the curves (the service process is gone); going on without"]
    assert run.calls.count("log") == 1


def test_a_broken_run_is_finished_and_what_fails_for_the_same_reason_is_not_said_again(tmp_path: Path) -> None:
    run, said = BrokenRun(), []
    tracker = WandbTracker(run, said.append)
    tracker.row({"stage": "pretrain", "step": 0, "loss": 1.0})
    tracker.finished(small_result(), tmp_path)
    tracker.close(failed=False)
    assert run.calls[-1] == "finish"
    assert len([text for text in said if "the service process is gone" in text]) == 1


@pytest.mark.parametrize("failed", [True, False])
def test_the_exit_code_is_handed_on(failed: bool) -> None:
    codes: list[int] = []

    class Run:
        def finish(self, exit_code: int) -> None:
            codes.append(exit_code)

    WandbTracker(Run(), pytest.fail).close(failed)
    assert codes == [int(failed)]


def test_the_summary_says_what_dashboards_plot() -> None:
    values = summary_of(small_result(), small_measured())
    assert values["psnr/finetuned"] == 29.0
    assert values["psnr/bicubic"] == 20.0
    assert "psnr/baseline" not in values
    assert values["psnr/lost"] == 1.0
    assert (values["macs_kept"], values["macs"], values["parameters"], values["parameters_kept"]) == (0.5, 500, 60, 0.6)
    assert values["units_cut"] == pytest.approx(1 / 3)
    assert (values["latency_ms"], values["latency_ms_dense"], values["speed_up"]) == (8.0, 12.0, 1.5)


def test_the_summary_holds_temporal_consistency_where_it_was_measured() -> None:
    result = small_result()
    assert not [name for name in summary_of(result, None) if name.startswith(("tof", "warping_error"))]
    result.quality["finetuned"] = replace(result.quality["finetuned"], tof=0.25, warping_error=0.001)
    values = summary_of(result, None)
    assert (values["tof/finetuned"], values["warping_error/finetuned"]) == (0.25, 0.001)
    assert "tof/dense" not in values


def test_a_job_that_was_not_measured_has_no_latency_in_its_summary() -> None:
    assert not {"latency_ms", "speed_up"} & set(summary_of(small_result(), None))


def test_the_heatmap_shows_what_is_cut_and_what_is_important() -> None:
    image = layer_heatmap(small_result())
    assert image.height == 2 * CELL_HEIGHT
    cells = image.crop((image.width - 4 * CELL_HEIGHT, 0, image.width, image.height))
    middles = [(unit + 0.5) * CELL_HEIGHT for unit in range(4)]
    colours = [[cells.getpixel((int(x), int(y))) for x in middles] for y in middles[:2]]
    assert colours[0] == [CUT, CUT, HALFWAY, DARK]
    assert colours[1] == [BRIGHT, BRIGHT, (255, 255, 255), (255, 255, 255)]


def test_crops_of_a_few_clips_stand_side_by_side(tmp_path: Path) -> None:
    clips = [f"clip_{number}" for number in range(6)]
    write_crops(tmp_path, clips)
    assert list(crop_files(tmp_path)) == [f"{clip}: {kind}" for clip in clips[:4] for kind in KINDS[:-1]]
    (tmp_path / "clip_0_dense.png").unlink()
    assert "clip_0: dense" not in crop_files(tmp_path)


def test_a_job_without_crops_has_none(tmp_path: Path) -> None:
    assert crop_files(tmp_path / "crops") == {}


class RecordingRun:
    """A wandb run that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.resumed = False

    def define_metric(self, *args: Any, **kwargs: Any) -> None: ...

    def log(self, values: dict[str, Any]) -> None:
        self.rows.append(values)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code

    @property
    def names(self) -> set[str]:
        """Of what was logged beside curves and the trade-off."""
        return {name for row in self.rows for name in row if not name.startswith("tradeoff/")}


def result_of(method: str) -> Result:
    """What a job of that method finds, as far as the kinds of its values go."""
    ranks, trains_new = METHODS[method].plan == "ranked", METHODS[method].start == "scratch"
    result = small_result()
    return replace(
        result,
        scores=result.scores if ranks else None,
        equivalence=None if trains_new else result.equivalence,
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_result_of_every_method_is_mirrored_whole(method: str, tmp_path: Path) -> None:
    """Those that rank nothing have no scores; their heatmap shows what is cut all the same."""
    small_measured().save(tmp_path)
    write_crops(tmp_path / "crops", ["walk"])
    run = RecordingRun()
    tracker = WandbTracker(run, pytest.fail)
    tracker.finished(result_of(method), tmp_path)
    tracker.close(failed=False)
    assert run.names == {"layers", "layers/heatmap", "crops"}
    assert {"psnr/finetuned", "macs_kept", "speed_up"} <= set(run.summary)
    assert ("equivalence/float64" in run.summary) == (METHODS[method].start != "scratch")
    assert run.exit_code == 0


def test_without_scores_the_heatmap_shows_what_is_kept_and_what_is_cut() -> None:
    image = layer_heatmap(replace(small_result(), scores=None))
    cells = image.crop((image.width - 4 * CELL_HEIGHT, 0, image.width, image.height))
    middles = [(unit + 0.5) * CELL_HEIGHT for unit in range(4)]
    assert [cells.getpixel((int(x), CELL_HEIGHT // 2)) for x in middles] == [CUT, CUT, HALFWAY, HALFWAY]


PARTS = {
    "_log_summary": "summary",
    "_log_tradeoff": "trade-off",
    "_log_layers": "table of layers",
    "_log_heatmap": "heatmap of layers",
    "_log_crops": "crops",
}


@pytest.mark.parametrize("broken", PARTS)
def test_a_part_that_fails_costs_none_of_the_others(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise KeyError("backward_trunk.stream")

    small_measured().save(tmp_path)
    write_crops(tmp_path / "crops", ["walk"])
    run, said = RecordingRun(), list[str]()
    monkeypatch.setattr(WandbTracker, broken, fail)
    tracker = WandbTracker(run, said.append)
    tracker.finished(small_result(), tmp_path)
    tracker.close(failed=False)
    logged = {"_log_layers": "layers", "_log_heatmap": "layers/heatmap", "_log_crops": "crops"}
    assert run.names == {name for part, name in logged.items() if part != broken}
    assert bool(run.summary) == (broken != "_log_summary")
    assert any("tradeoff/psnr" in row for row in run.rows) == (broken != "_log_tradeoff")
    assert run.exit_code == 0
    assert said == [f"tracking: wandb did not take the {PARTS[broken]} ('backward_trunk.stream'); going on without"]


def test_stages_that_were_reused_have_their_curves_too(tmp_path: Path) -> None:
    rows = [{"stage": stage, "step": step, "loss": 1.0} for stage in ("pretrain", "finetune") for step in range(2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RecordingRun()
    tracker = WandbTracker(run, pytest.fail)
    for row in rows[2:]:
        tracker.row(row)
    tracker.finished(small_result(), tmp_path)
    steps = {
        stage: [row[f"{stage}/step"] for row in run.rows if f"{stage}/step" in row]
        for stage in ("pretrain", "finetune")
    }
    assert steps == {"pretrain": [0, 1], "finetune": [0, 1]}
    assert run.summary["macs_kept"] == 0.5


def test_what_an_earlier_process_trained_of_a_stage_is_there_too(tmp_path: Path) -> None:
    """Offline: the files of the earlier process are not gone on with, so these have all rows."""
    rows = [{"stage": "finetune", "step": step, "loss": 1.0} for step in range(4)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RecordingRun()
    tracker = WandbTracker(run, pytest.fail)
    for row in rows[2:]:
        tracker.row(row)
    tracker.finished(small_result(), tmp_path)
    assert sorted(row["finetune/step"] for row in run.rows if "finetune/step" in row) == [0, 1, 2, 3]


def test_a_run_that_goes_on_in_the_service_gets_no_row_twice(tmp_path: Path) -> None:
    """Online: the service has what earlier processes sent, past the checkpoint that training goes on from."""
    rows = [{"stage": stage, "step": step, "loss": 1.0} for stage in ("pretrain", "finetune") for step in range(6)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = RecordingRun()
    run.resumed, run.summary = True, {"pretrain/step": 5, "finetune/step": 3}
    tracker = WandbTracker(run, pytest.fail)
    for row in rows[8:]:  # from step 2 on
        tracker.row(row)
    tracker.finished(small_result(), tmp_path)
    assert [row["finetune/step"] for row in run.rows if "finetune/step" in row] == [4, 5]
    assert not [row for row in run.rows if "pretrain/step" in row]


def test_a_job_of_a_sweep_has_an_id_of_its_own_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    ids = [lasting_run_id(tmp_path / f"job{index}", in_sweep=True) for index in range(3)]
    assert len({*ids, "abc123"}) == 4
    assert ids == [lasting_run_id(tmp_path / f"job{index}", in_sweep=True) for index in range(3)]
    assert lasting_run_id(tmp_path / "single", in_sweep=False) == "abc123"
    monkeypatch.delenv("WANDB_RUN_ID")
    assert lasting_run_id(tmp_path / "single", in_sweep=False) == "abc123"
    assert not list(tmp_path.glob("job*/wandb/*run-*"))  # no run is there yet


@pytest.mark.parametrize(("mode", "resume"), [("online", "allow"), ("offline", None)])
def test_a_run_goes_on_under_its_id(
    mode: str, resume: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(wandb, "init", lambda **options: started.append(options) or RecordingRun())
    label = RunLabel("job", "sweep", "ssl", "vsrprune", run_id="0a1b2c3d")
    with tracked(["wandb"], mode, label, config={}, folder=tmp_path, warn=pytest.fail):
        pass
    assert [(options["id"], options["resume"]) for options in started] == [("0a1b2c3d", resume)]


def test_damaged_files_beside_the_result_cost_no_job(tmp_path: Path) -> None:
    (tmp_path / MEASURED).write_text('{"latency_ms": ')
    run, said = RecordingRun(), list[str]()
    WandbTracker(run, said.append).finished(small_result(), tmp_path)
    assert len(said) == 1
    assert {"layers", "layers/heatmap"} <= run.names


def test_what_a_run_is_started_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []

    def init(**options: Any) -> RecordingRun:
        started.append(options)
        return RecordingRun()

    monkeypatch.setattr(wandb, "init", init)
    with tracked(
        ["wandb"],
        "offline",
        RunLabel("job", "sweep", "ssl", "vsrprune", tags=("ssl", "x" * 99, "ssl", "")),
        config={"ratio": 0.5, "model": {"channels": 16}, "ratios": {"a.conv": 0.1}},
        folder=tmp_path,
        warn=pytest.fail,
    ):
        pass
    (options,) = started
    assert options["config"] == {"ratio": 0.5, "model.channels": 16, "ratios": {"a.conv": 0.1}}
    assert options["tags"] == ["ssl", "x" * 64]
    assert (options["group"], options["job_type"], options["name"]) == ("sweep", "ssl", "job")
    assert (options["project"], options["entity"]) == ("vsrprune", None)


def test_a_damaged_id_of_a_run_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run_id").write_bytes(b"0a1\xff2c3d\n")
    run_id = lasting_run_id(tmp_path, in_sweep=True)
    assert re.fullmatch("[0-9a-f]{8}", run_id)
    assert lasting_run_id(tmp_path, in_sweep=True) == run_id
