"""The live table of jobs: what their files say, how long they will take, and that it fits."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.watch import draw, duration, left_in_words, most_telling, short, shortened, split_names, summary
from analysis.watched_jobs import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    WAITING,
    JobRow,
    Watch,
    job_folders,
    rate,
    read_job,
    seconds_left,
    sweep_left,
)
from vsrprune.host.failures import STATE, FailureCard, JobState, read_state

ROOT = Path(__file__).parents[2]
Finish = Callable[[Path], Path]
NAMES = [f"rsc={rsc},ratio={ratio}" for rsc in ("true", "false") for ratio in ("0.3", "0.5", "0.7")]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "sweep-1234"


@pytest.fixture
def finish(make_run: Callable[..., Path]) -> Finish:
    """Write the files of a finished job into a new folder."""
    return lambda folder: make_run(folder.parent, folder.name, psnr=31.25, macs=3440, steps=4, side=0)


def train(folder: Path, step: int, steps: int = 100, stage: str = "finetune") -> JobState:
    """A job of this process that has reached a step."""
    state = JobState(folder)
    state.stage(stage, steps)
    state._written = 0.0  # it writes once a second only
    state.step(stage, step, 0.0123)
    return state


def from_dead_process(code: str, folder: Path) -> None:
    """Run `code` with a job's `folder` in a process that is gone afterwards."""
    text = (
        f"from pathlib import Path\nfrom vsrprune.host.failures import JobState\nfolder = Path({str(folder)!r})\n{code}"
    )
    subprocess.run([sys.executable, "-c", text], check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})


def edit_state(folder: Path, **changes: Any) -> None:
    """Change what state.json says; None drops a value."""
    values = {**json.loads((folder / STATE).read_text()), **changes}
    (folder / STATE).write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def text_of(rows: list[JobRow], width: int, height: int | None = None, now: float = 0.0) -> list[str]:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(draw(rows, now, width, height))
    return console.export_text().splitlines()


def test_a_job_that_was_not_started_yet_waits(sweep: Path) -> None:
    JobState.waiting(sweep / "a")
    row = read_job(sweep / "a")
    assert (row.state, row.stage, row.steps) == (WAITING, "", 0)


def test_a_job_whose_sweep_is_gone_waits_no_longer(sweep: Path) -> None:
    from_dead_process("JobState.waiting(folder)", sweep / "a")
    assert read_job(sweep / "a").state == STOPPED


def test_a_running_job_says_stage_step_and_loss(sweep: Path) -> None:
    train(sweep / "a", 29)
    row = read_job(sweep / "a")
    assert (row.state, row.stage, row.step, row.steps, row.loss) == (RUNNING, "finetune", 29, 100, 0.0123)
    assert row.since_step == 29
    assert row.since == pytest.approx(row.changed, abs=5)


def test_a_stage_that_does_not_train_has_no_steps(sweep: Path) -> None:
    train(sweep / "a", 29).stage("measure")
    row = read_job(sweep / "a")
    assert (row.state, row.stage, row.step, row.steps, row.loss) == (RUNNING, "measure", 0, 0, None)


def test_a_job_whose_process_was_killed_is_stopped(sweep: Path) -> None:
    code = "state = JobState(folder)\nstate.stage('sparsify', 30)\nstate._written = 0\nstate.step('sparsify', 7, 0.5)"
    from_dead_process(code, sweep / "a")
    row = read_job(sweep / "a")
    assert (row.state, row.stage, row.step) == (STOPPED, "sparsify", 7)


def move_elsewhere(folder: Path) -> None:
    process = json.loads((folder / STATE).read_text())["process"]
    edit_state(folder, process={**process, "host": "elsewhere", "pid": 2**22 + 1})


def test_a_process_on_another_machine_is_not_taken_for_dead(sweep: Path) -> None:
    train(sweep / "a", 29)
    move_elsewhere(sweep / "a")
    row = read_job(sweep / "a")
    assert (row.state, row.elsewhere) == (RUNNING, True)


def test_the_table_says_how_long_such_a_process_has_been_silent(sweep: Path) -> None:
    train(sweep / "a", 29)
    here = read_job(sweep / "a")
    move_elsewhere(sweep / "a")
    there = read_job(sweep / "a")
    assert any("? 1h00m" in line for line in text_of([there], 80, now=there.changed + 3600))
    assert not any("?" in line for line in text_of([there], 80, now=there.changed + 60))
    assert not any("?" in line for line in text_of([here], 80, now=here.changed + 3600))  # it lives, and is slow


def test_a_finished_job_shows_what_came_out(sweep: Path, finish: Finish) -> None:
    finish(sweep / "a")
    row = read_job(sweep / "a")
    assert (row.state, row.psnr, row.macs_kept, row.loss) == (DONE, 31.25, 0.43, 0.25)


def test_a_job_that_until_stopped_early_is_done_without_a_result(sweep: Path, finish: Finish) -> None:
    (finish(sweep / "a") / "result.json").unlink()
    (sweep / "a" / ".hydra").mkdir()
    assert list(job_folders([sweep.parent])) == [sweep / "a"]
    row = read_job(sweep / "a")
    assert (row.state, row.psnr, row.loss) == (DONE, None, 0.25)


def test_a_job_killed_after_its_result_is_done(sweep: Path, finish: Finish) -> None:
    finish(sweep / "a")
    from_dead_process("JobState(folder)", sweep / "a")
    os.utime(sweep / "a" / "result.json", (2e9, 2e9))
    assert read_job(sweep / "a").state == DONE


def test_a_job_that_runs_again_is_not_shown_by_its_old_result(sweep: Path, finish: Finish) -> None:
    finish(sweep / "a")
    train(sweep / "a", 3)
    row = read_job(sweep / "a")
    assert (row.state, row.psnr) == (RUNNING, None)


def test_a_failed_job_says_where_and_why(sweep: Path) -> None:
    train(sweep / "a", 29)
    FailureCard("finetune", 29, "out of\nmemory", "less", "python").save(sweep / "a")
    row = read_job(sweep / "a")
    assert (row.state, row.stage, row.step, row.cause) == (FAILED, "finetune", 29, "out of memory")


def test_how_far_a_job_came_is_kept_while_it_waits(sweep: Path) -> None:
    train(sweep / "a", 29)
    JobState.waiting(sweep / "a")
    row = read_job(sweep / "a")
    assert (row.state, row.stage) == (WAITING, "")
    assert read_state(sweep / "a") == ("finetune", 29)
    assert JobState(sweep / "a")
    assert read_job(sweep / "a").state == RUNNING


def test_a_failed_job_that_is_to_be_retried_waits(sweep: Path) -> None:
    FailureCard("finetune", 29, "out of memory", "less", "python").save(sweep / "a")
    os.utime(sweep / "a" / "failure.json", (1e9, 1e9))
    JobState.waiting(sweep / "a")
    assert read_job(sweep / "a").state == WAITING


@pytest.mark.parametrize(
    "text", ["", "{", '{"stage": "fine', "[]", "7", '{"stage": null, "step": "x", "steps": []}', "\x00"]
)
@pytest.mark.parametrize("name", ["state.json", "failure.json", "result.json", "metrics.jsonl"])
def test_half_written_files_stop_nothing(sweep: Path, name: str, text: str, finish: Finish) -> None:
    for job in ("a", "b"):
        finish(sweep / job)
    train(sweep / "b", 3)
    (sweep / "a" / name).write_text(text)
    rows = Watch([sweep]).look(0.0)
    assert [row.folder.name for row in rows] == ["a", "b"]
    assert rows[1].state == RUNNING
    assert rows[0].state == (RUNNING if name == "state.json" else DONE)
    assert text_of(rows, 80)


def test_a_torn_last_row_leaves_the_row_before(sweep: Path, finish: Finish) -> None:
    finish(sweep / "a")
    with (sweep / "a" / "metrics.jsonl").open("a") as stream:
        stream.write('{"stage": "finetune", "step": 3, "loss_rec')
    assert read_job(sweep / "a").loss == 0.25


def test_while_a_state_is_being_written_the_last_one_stands(sweep: Path) -> None:
    train(sweep / "a", 29)
    watch = Watch([sweep])
    (before,) = watch.look(0.0)
    (sweep / "a" / STATE).write_text("")
    (row,) = watch.look(1.0)
    assert (row.stage, row.step) == (before.stage, before.step)


def test_jobs_are_found_in_natural_order_and_nothing_below_them(tmp_path: Path, finish: Finish) -> None:
    for name in ("s/ratio=0.10", "s/ratio=0.9", "s/job10", "s/job2", "alone", ".multirun/hidden"):
        finish(tmp_path / name)
    finish(tmp_path / "alone" / "crops")
    (tmp_path / "store" / "pretrain").mkdir(parents=True)
    (tmp_path / "store" / "pretrain" / "metrics.jsonl").write_text("")
    found = [str(folder.relative_to(tmp_path)) for folder in job_folders([tmp_path])]
    assert found == ["alone", "s/job2", "s/job10", "s/ratio=0.10", "s/ratio=0.9"]
    assert list(job_folders([tmp_path / "alone"])) == [tmp_path / "alone"]
    assert list(job_folders([tmp_path / "missing"])) == []


def running(**changes: Any) -> JobRow:
    row = JobRow(Path("runs/s/a"), RUNNING, 100.0, "finetune", step=49, steps=100, since=60.0, since_step=9)
    return dataclasses.replace(row, **changes)


@pytest.mark.parametrize(
    ("row", "seen", "expected"),
    [
        (running(), [], 1.0),  # 40 steps in 40 s, from the file's own times
        (running(), [(100.0, 49)], 1.0),  # the watch has just begun
        (running(), [(90.0, 29), (100.0, 49)], 2.0),  # seen
        (running(since=100.0, since_step=49), [], None),  # the first row of the stage
        (running(), [(90.0, 70)], 1.0),  # went back to a checkpoint
        (running(step=9, changed=60.0), [(60.0, 9)], None),
    ],
)
def test_the_rate_is_that_of_what_was_seen(row: JobRow, seen: list[tuple[float, int]], expected: float | None) -> None:
    assert rate(row, seen) == expected


@pytest.mark.parametrize(
    ("per_second", "now", "expected"),
    [(None, 100.0, None), (2.0, 100.0, 25.0), (2.0, 105.0, 20.0), (2.0, 1000.0, 0.0), (2.0, 90.0, 25.0)],
)
def test_the_time_left_counts_down_between_two_signs(
    per_second: float | None, now: float, expected: float | None
) -> None:
    assert seconds_left(running(), per_second, now) == expected


def test_a_watch_times_jobs_by_what_it_sees(sweep: Path) -> None:
    train(sweep / "a", 9)
    watch = Watch([sweep])
    for changed, step in ((1000.0, 9), (1010.0, 29)):
        edit_state(sweep / "a", step=step, since=500.0)
        os.utime(sweep / "a" / STATE, (changed, changed))
        (row,) = watch.look(changed)
    assert row.left == pytest.approx(70 / 2)


def test_a_job_that_resumed_is_timed_from_where_it_resumed(sweep: Path) -> None:
    state = train(sweep / "a", 59)
    edit_state(sweep / "a", since=1000.0)
    state._state["since"] = 1000.0
    state._written = 0.0
    state.step("finetune", 79, 0.1)
    os.utime(sweep / "a" / STATE, (1010.0, 1010.0))
    (row,) = Watch([sweep]).look(1010.0)
    assert row.left == pytest.approx(20 / 2)


def jobs_of_a_sweep(*jobs: tuple[str, float, float, float | None]) -> list[JobRow]:
    """Of state, time of the last start, time of the last sign, and seconds left of the stage."""
    return [
        JobRow(Path(f"sweep/{number}"), state, changed, begun, left=left)
        for number, (state, begun, changed, left) in enumerate(jobs)
    ]


@pytest.mark.parametrize(
    ("jobs", "left"),
    [
        # Nothing is done yet; nothing is left.
        ([(RUNNING, 100, 190, 5.0), (WAITING, 0, 100, None)], None),
        # Two took 40 and 60 s. The third has run for 20 s of 50, and two wait.
        ([(DONE, 100, 140, None), (DONE, 110, 170, None), (RUNNING, 180, 199, 10.0), *[(WAITING, 0, 100, None)] * 2],
         130),
        # The same with two that run beside each other: 30 s and 45 s left of them, 50 s of the one that waits.
        ([(DONE, 100, 150, None), (RUNNING, 180, 199, 10.0), (RUNNING, 195, 199, 9.0), (WAITING, 0, 100, None)], 62.5),
        # A stage that takes longer than the jobs before.
        ([(DONE, 100, 110, None), (RUNNING, 180, 199, 77.0)], 77),
        # Results of an earlier sweep, which this one took over at its start.
        ([(DONE, 10, 101, None), (DONE, 120, 130, None), (RUNNING, 200, 200, None), (WAITING, 0, 100, None)], 20),
    ],
)  # fmt: skip
def test_the_time_left_of_a_sweep_is_by_the_jobs_that_it_has_done(
    jobs: list[tuple[str, float, float, float | None]], left: float | None
) -> None:
    assert sweep_left(jobs_of_a_sweep(*jobs), 200.0) == left


def test_the_last_line_says_when_all_sweeps_are_done() -> None:
    rows = jobs_of_a_sweep((DONE, 100, 150, None), (RUNNING, 190, 199, None), (WAITING, 0, 100, None))
    assert left_in_words(rows, 200.0) == "; about 1m30s left"
    assert "3 jobs: 1 running, 1 waiting, 1 done; about 1m30s left" in text_of(rows, 80, now=200.0)
    other = dataclasses.replace(rows[1], folder=Path("another/a"))
    assert left_in_words([*rows, other], 200.0) == "; at least 1m30s left"
    assert left_in_words(rows[:1], 200.0) == ""


def test_a_job_tells_when_it_was_started(sweep: Path, finish: Finish) -> None:
    job = finish(sweep / "a")
    (job / ".hydra").mkdir()
    (job / ".hydra" / "overrides.yaml").write_text("[]")
    os.utime(job / ".hydra" / "overrides.yaml", (1000.0, 1000.0))
    assert read_job(job).begun == 1000.0
    assert read_job(finish(sweep / "b")).begun == 0.0


def test_nothing_to_watch_is_one_line(tmp_path: Path) -> None:
    for flags in (["--once"], []):
        done = watch_py(str(tmp_path), *flags)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: nothing to watch below {tmp_path}: no job was started there")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (130, "2m10s"), (3599.9, "1h00m"), (3900, "1h05m"), (273600, "3d04h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_and_names_are_short() -> None:
    assert [short(number) for number in (0, 9999, 10_000, 300_000)] == ["0", "9999", "10k", "300k"]
    assert [shortened("abcdefgh", width) for width in (8, 7, 3, 1)] == ["abcdefgh", "abc…fgh", "a…h", "…"]


def test_names_are_split_into_knobs_where_all_have_the_same() -> None:
    assert split_names(["rsc=true,schedule.batch=2", "rsc=false,schedule.batch=4"]) == (
        ["rsc", "batch"],
        [["true", "2"], ["false", "4"]],
    )
    assert split_names(["rsc=true", "ratio=0.3"]) == (["job"], [["rsc=true"], ["ratio=0.3"]])
    assert split_names(["data.val=[a,b],seed=1"]) == (["job"], [["data.val=[a b] seed=1"]])
    assert split_names(["default"]) == (["job"], [["default"]])


def full_sweep(sweep: Path, finish: Finish) -> list[JobRow]:
    """Six jobs: done, failed, stopped, two running, waiting."""
    done, failed, stopped, first, second, waiting = (sweep / name for name in NAMES)
    finish(done)
    FailureCard("sparsify", 12, "the loss is not finite at step 12; " * 4, "lower lr", "python").save(failed)
    from_dead_process("JobState(folder).stage('pretrain', 300)", stopped)
    train(first, 119, 300_000)
    train(second, 29_999, 300_000, "sparsify")
    JobState.waiting(waiting)
    rows = Watch([sweep]).look(0.0)
    return [dataclasses.replace(row, left=3900.0) if row.state == RUNNING else row for row in rows]


def test_the_table_of_a_sweep(sweep: Path, finish: Finish) -> None:
    text = "\n".join(text_of(full_sweep(sweep, finish), 80))
    for part in (
        "sweep-1234",
        "rsc    ratio  state    stage",
        "120/300k",
        "30k/300k",
        "10%",
        "1h05m",
        "0.0123",
        "31.25",
        "43%",
        "6 jobs: 2 running, 1 waiting, 1 done, 1 failed, 1 stopped",
        "failed: rsc=true,ratio=0.5 in sparsify: the loss is not finite at step 12",
    ):
        assert part in text, part
    assert "…" not in text


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120])
@pytest.mark.parametrize(
    "rename", [lambda name: name, lambda name: name + ",data.path=" + "x" * 60, lambda name: "job"]
)
def test_the_table_fits_the_terminal(sweep: Path, width: int, rename: Callable[[str], str], finish: Finish) -> None:
    rows = [dataclasses.replace(row, folder=sweep / f"{rename(row.folder.name)}") for row in full_sweep(sweep, finish)]
    lines = text_of(rows, width, height=50)
    assert max(map(len, lines)) <= width
    headings = next(line for line in lines if "state" in line)
    assert width < 40 or "PSNR" in headings
    assert width < 80 or "loss" in headings


def test_a_low_terminal_shows_what_runs_and_what_broke(sweep: Path, finish: Finish) -> None:
    rows = full_sweep(sweep, finish)
    lines = text_of(rows, 80, height=12)
    assert len(lines) <= 12
    text = "\n".join(lines)
    assert text.count(" running ") == 2
    assert "2 running" in text
    assert "not shown" in text
    assert {row.state for row in most_telling(rows, 4)} == {RUNNING, FAILED, STOPPED}
    for height in range(1, 20):
        assert len(text_of(rows, 80, height=height)) <= max(height, 3)


def test_nothing_to_show_is_said() -> None:
    assert summary([]) == "0 jobs"
    assert text_of([], 80) == ["0 jobs"]


def watch_py(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join(str(item) for item in (path, ROOT / "src") if item)
    return subprocess.run(
        [sys.executable, str(ROOT / "analysis" / "watch.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": search},
        check=False,
    )


@pytest.mark.parametrize("flags", [["--once"], []], ids=["once", "no terminal"])
def test_one_table_for_logs_needs_neither_torch_nor_wandb(
    sweep: Path, tmp_path: Path, flags: list[str], finish: Finish
) -> None:
    full_sweep(sweep, finish)
    heavy = tmp_path / "heavy"
    heavy.mkdir()
    for name in ("torch", "wandb", "pandas", "matplotlib"):
        (heavy / f"{name}.py").write_text(f'raise ImportError("{name} is not to be imported here")\n')
    done = watch_py(str(sweep.parent), *flags, path=heavy)
    assert done.returncode == 0, done.stderr
    assert "6 jobs: 2 waiting" not in done.stdout
    assert "rsc    ratio" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_wrong_interval_is_refused(tmp_path: Path) -> None:
    done = watch_py(str(tmp_path), "--every", "0")
    assert done.returncode == 2
    assert "--every must be more than 0" in done.stderr
