"""What a run says before its first stage and after its last, and the tree of its knobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from results_made import small_measured, small_result
from rich.console import Console

from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.config.tree import config_tree
from vsrprune.host.devices import Card, Place
from vsrprune.jobs.ending import ending
from vsrprune.jobs.header import job_header, print_header, stages_text, sweep_header, time_line, varying_values
from vsrprune.jobs.outlook import foretell, foretold
from vsrprune.jobs.planning import plan_job
from vsrprune.results.measured import Timing
from vsrprune.results.terminal import Row, once_each
from vsrprune.stages.job import Job
from vsrprune.store.store import Store


def job_of(**knobs: Any) -> Job:
    return plan_job(with_knobs(Config(), {name.replace("__", "."): value for name, value in knobs.items()}))


def printed(lines: dict[str, str], width: int = 80) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        print_header(lines, console)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", print, print)


HEADER = """\
model     basicvsr_small, 166.5K parameters beside the flow net, scale 4
method    ssl, rule rsc, ratio 0.5 of units
data      demo: 24 clips to train on, 4 held out; 10 frames of 224x160
schedule  demo: flow 400, pretrain 600, sparsify 90, finetune 100 steps; 4 clips
          of 5 frames of 20x20 a step
device    cpu, 3 threads
results   runs/default; stages in store
stages    10: 0 exist, 10 to compute"""


def test_the_header_of_the_default_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where this folder's store is not: the demo may have been run
    job = job_of(trainer__accelerator="cpu", trainer__threads=3)
    lines = printed(job_header(job, Store(Path("store"), print, print), Path("runs/default")))
    assert lines == HEADER.splitlines()


def test_every_network_and_schedule_of_a_sweep_stands_in_its_header_once(store: Store) -> None:
    jobs = [job_of(ratio=ratio, schedule__pretrain__steps=steps) for ratio in (0.3, 0.5) for steps in (10, 20)]
    overrides = [[f"ratio={ratio}", f"schedule.pretrain.steps={steps}"] for ratio in (0.3, 0.5) for steps in (10, 20)]
    header = sweep_header(jobs, overrides, store, Path("runs/x"))
    assert header["sweep"] == "4 jobs, one at a time: ratio 0.3, 0.5; schedule.pretrain.steps 10, 20"
    assert header["model"].count("basicvsr_small") == 1
    assert [line.partition(" sparsify")[0] for line in header["schedule"].splitlines()] == [
        "demo: flow 400, pretrain 10,",
        "demo: flow 400, pretrain 20,",
    ]


def test_a_knob_that_some_jobs_leave_out_varies_from_its_default() -> None:
    assert varying_values([["a=1", "b=2"], ["a=1"]]) == {"b": ["(default)", "2"]}


def test_steps_and_frames_of_a_longer_finetuning_are_told() -> None:
    job = job_of(schedule__finetune__frames=8, rounds=2)
    schedule = job_header(job, Store(Path("store"), print, print), Path("x"))["schedule"]
    assert schedule == (
        "demo: flow 400, pretrain 600, sparsify_1 90, sparsify 90, finetune 100 steps;"
        " 4 clips of 5 (8 in finetune) frames of 20x20 a step"
    )


def test_a_card_and_its_precision_are_named(store: Store) -> None:
    job = job_of(trainer__precision="bf16-mixed", trainer__threads=1)
    on_card = replace(job, place=Place((Card("GPU-1", "NVIDIA L4"),)))
    assert job_header(on_card, store, Path("x"))["device"] == "NVIDIA L4, 1 thread, bf16-mixed"


def test_stages_are_counted_once_and_their_time_is_told_if_all_of_it_is_known(store: Store) -> None:
    jobs = [job_of(ratio=0.3), job_of(ratio=0.5)]
    keys = {stage.key for job in jobs for stage in job.stages}
    first = jobs[0].stages[0]
    store.produce(first.stage, first.key, {}, lambda folder, work: None)
    left = keys - {first.key}
    assert stages_text(jobs, store) == f"{len(keys)}, which 2 jobs share: 1 exist, {len(left)} to compute"
    known = dict.fromkeys(left, 60.0)
    assert time_line(jobs, store, known) == {"time": f"about {len(left)} min"}
    assert time_line(jobs, store, dict(list(known.items())[1:])) == {}


def test_nothing_is_timed_for_seconds_of_training(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("vsrprune.jobs.speed.run_probe", lambda *asked: pytest.fail("it was timed"))
    short = {"schedule__flow__steps": 3, "schedule__pretrain__steps": 4, "schedule__finetune__steps": 4}
    job = job_of(**short, schedule__sparsify__hold_steps=0, trainer__accelerator="cpu")
    assert foretell([job], store, pytest.fail) == {}


def test_what_is_foretold_of_a_job_is_all_that_it_misses(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seconds = dict.fromkeys(("start", "step", "narrow_step", "frame", "compare", "motion", "output_motion"), 0.1)
    asked = []
    monkeypatch.setattr(
        "vsrprune.jobs.speed.run_probe", lambda *given: asked.append(given) or {**seconds, "parameters": 1.0}
    )
    jobs = [job_of(rsc=rsc, trainer__accelerator="cpu") for rsc in (True, False)]
    said: list[str] = []
    found = foretell(jobs, store, said.append)
    assert set(found) == {stage.key for job in jobs for stage in job.stages}
    assert len(asked) == len(said) == 1  # the other network is scaled
    assert set(foretold(jobs[0], store, found).stages) == {stage.key for stage in jobs[0].stages}
    del found[jobs[0].stages[2].key]
    assert foretold(jobs[0], store, found).stages == {}


# Notes


def test_a_sentence_of_all_jobs_is_told_once_and_of_some_with_their_numbers() -> None:
    assert once_each("warning", [["all", "odd"], ["all"], ["odd", "all"]]) == ["warning: all", "warning (#1, #3): odd"]


def test_no_jobs_that_say_anything_say_nothing() -> None:
    assert once_each("note", [[], []]) == []


# The end


def test_nothing_comes_next_where_nothing_is_finished() -> None:
    assert ending([], Path("runs/x"), [], Path("store")) == []


def finished(label: str, psnr: float, macs: int, pruned_ms: float, dense: str = "one") -> Row:
    """A row of a sweep: the dense network has 30 dB and 1000 MACs, and takes 10 ms."""
    made = small_result()
    knobs = {
        name: float(value) if name == "ratio" else value for name, _, value in (w.partition("=") for w in label.split())
    }
    quality = {**made.quality, "finetuned": replace(made.quality["finetuned"], psnr=psnr)}
    cost = {**made.cost, "pruned": replace(made.cost["pruned"], macs=macs)}
    stages = {"pretrain": dense, "reference": dense, "select": label, "finetune": label, "evaluate": label}
    result = replace(
        made,
        knobs={
            **made.knobs,
            "data": {"name": "demo"},
            "evaluate": {},
            "target": "units",
            "replicate": 0,
            "pretrain_seed": 0,
            **knobs,
        },
        quality=quality,
        cost=cost,
        stages=stages,
    )
    times = {"dense": Timing(10.0, 10.0, 10.0, 10.0, "nchw"), "pruned": Timing(*[pruned_ms] * 4, "nchw")}
    return Row(label, result, replace(small_measured(), latency_ms=times))


SWEPT = [
    finished("rsc=true ratio=0.3", 30.1, 700, 8.0),
    finished("rsc=true ratio=0.5", 29.9, 500, 7.0),
    finished("rsc=false ratio=0.3", 30.0, 600, 6.0),
    finished("rsc=false ratio=0.5", 29.6, 400, 4.0),
]


def said(rows: list[Row]) -> list[str]:
    lines = ending(rows, Path("runs/x"), [Path("runs/x") / row.label for row in rows], Path("store"))
    return lines[: [line.startswith("its network") for line in lines].index(True)]


def test_a_sweep_says_what_is_fast_and_good_and_compares_settings_at_equal_macs() -> None:
    """Between 500 and 600 of 1000 MACs rsc=true has 29.9 to 30.0 dB, and rsc=false 29.8 to 30.0: 0.05 dB less."""
    assert said(SWEPT) == [
        "highest PSNR: #1, 30.10 dB at 70.0% of the MACs",
        "fastest within 0.15 dB of the dense network (30.00): #3, 30.00 dB, speed-up 1.67",
        "at equal MACs (50 to 60 % of the MACs): rsc=false -0.050 dB against rsc=true",
    ]


def test_a_sweep_that_loses_quality_says_so() -> None:
    assert said(SWEPT[3:] * 2)[1] == "none is within 0.15 dB of the dense network (30.00 dB)"


def without_truth(row: Row) -> Row:
    data = {**row.result.knobs["data"], "truth": "none"}
    return replace(row, result=replace(row.result, knobs={**row.result.knobs, "data": data}))


def test_a_sweep_without_a_truth_says_what_is_nearest_to_the_dense_network_and_nothing_of_its_loss() -> None:
    assert said([without_truth(row) for row in SWEPT]) == [
        "nearest to the dense network: #1, 30.10 dB at 70.0% of the MACs",
        "at equal MACs (50 to 60 % of the MACs): rsc=false -0.050 dB against rsc=true",
    ]


def test_what_saw_no_truth_is_not_the_best_of_those_that_did() -> None:
    assert said([without_truth(SWEPT[0]), *SWEPT[1:3]])[0] == "highest PSNR: #3, 30.00 dB at 60.0% of the MACs"


def test_frames_per_second_are_plain_numbers() -> None:
    """0.8 ms make 1250 frames, of 2000 within 0.5 ms; the dense network takes 10 ms."""
    row = finished("rsc=true", 30.0, 700, 0.8)
    knobs = {**row.result.knobs, "target": "realtime", "target_ms": 0.5}
    (line,) = said([replace(row, result=replace(row.result, knobs=knobs))])
    assert "it makes 1250 frames of " in line
    assert line.endswith(" (0.8 ms), of 2000 asked for, which is not in time; the dense network 100")


def test_curves_of_different_dense_networks_are_not_compared() -> None:
    """Equal shares of different networks' MACs are no equal cost."""
    others = [
        replace(row, result=replace(row.result, knobs={**row.result.knobs, "model": {"name": "large"}}))
        for row in (
            finished("rsc=false ratio=0.3", 30.0, 600, 6.0, "large"),
            finished("rsc=false ratio=0.5", 29.6, 400, 4.0, "large"),
        )
    ]
    assert len(said([*SWEPT[:2], *others])) == 1


def test_many_settings_are_compared_in_the_report_alone() -> None:
    rows = [
        finished(f"score={number} ratio={ratio}", 30.0, macs, 5.0)
        for number in range(12)
        for ratio, macs in (("0.3", 700), ("0.5", 500))
    ]
    lines = said(rows)
    assert len(lines) == 11
    assert lines[-1] == "and 3 more; the report compares them all"


def test_of_several_dense_networks_none_is_called_the_fastest() -> None:
    other = finished("rsc=true ratio=0.5", 30.0, 500, 1.0, dense="another")
    assert said([*SWEPT, other])[1].startswith("at equal MACs")


# print_config


def tree_of(*configs: Config) -> list[str]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(config_tree(configs))
    return [line.lstrip("│├└─ ") for line in capture.get().splitlines()]


def test_the_tree_marks_what_is_not_the_default() -> None:
    lines = tree_of(with_knobs(Config(), {"ratio": 0.7, "schedule.pretrain.steps": 5, "model.channels": 8}))
    marked = [line for line in lines if line.startswith("*")]
    assert marked == [
        "* ratio: 0.7  (default 0.5)",
        f"* channels: 8  (default {Config().model.arguments.channels})",
        "* steps: 5  (default 600)",
    ]
    assert "rsc: true" in lines


def test_the_tree_of_the_defaults_marks_nothing() -> None:
    assert not [line for line in tree_of(Config()) if line.startswith("*")]


def test_the_tree_of_a_sweep_shows_the_values_of_all_jobs() -> None:
    lines = tree_of(*(with_knobs(Config(), {"ratio": ratio}) for ratio in (0.3, 0.5, 0.3)))
    assert "* ratio: 0.3 | 0.5  (default 0.5)" in lines
