"""The launcher's decisions, without a process: threads, GPUs, which job may start, what becomes of a job."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from fake_cards import fake_cards

from hydra_plugins.vsrprune_launcher import launcher
from hydra_plugins.vsrprune_launcher.cards import blocks_of, dividing, sharing
from hydra_plugins.vsrprune_launcher.engines import ENGINES, Call, Submit
from hydra_plugins.vsrprune_launcher.launcher import INTERRUPTED, REQUEUES, Sweep, SweepJob, training_threads
from vsrprune.config.agreement import validate
from vsrprune.config.composing import with_knobs
from vsrprune.config.job import Config
from vsrprune.config.machine import LauncherConfig
from vsrprune.errors import UserError
from vsrprune.host.devices import Card
from vsrprune.host.failures import FailureCard, JobState
from vsrprune.host.processes import PREEMPTED, STOP
from vsrprune.jobs.planning import plan_job


def changed(**knobs: Any) -> Config:
    """A configuration with some values set; a dot in a name is written as two underscores."""
    return with_knobs(Config(), {name.replace("__", "."): value for name, value in knobs.items()})


def refusal(**settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        validate(changed(**{f"launcher__{name}": value for name, value in settings.items()}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Settings

PATIENCE = 30
BATCH_JOB = {"cores": 4, "memory": "16GB"}


@pytest.mark.parametrize("name", ["nonsense", "", "joblib"])
def test_an_unknown_launcher_is_refused_with_those_there_are(name: str) -> None:
    expected = f"launcher.name must be one of local, dask, ray, slurm, pbs, sge; got {name!r}"
    assert refusal(name=name) == expected


@pytest.mark.parametrize(("name", "least"), [("jobs", 1), ("threads", 0)])
def test_a_number_below_its_least_is_refused(name: str, least: int) -> None:
    assert refusal(**{name: least - 1}) == f"launcher.{name} must be at least {least}; got {least - 1}"


@pytest.mark.parametrize("name", ["local", "slurm", "pbs", "sge"])
def test_an_address_is_refused_where_nothing_reads_it(name: str) -> None:
    expected = f"launcher.address is given, but launcher={name} does not read it; use launcher=dask or ray"
    assert refusal(name=name, address="tcp://host:8786", options=BATCH_JOB if name != "local" else None) == expected


@pytest.mark.parametrize("name", ["local", "dask", "ray"])
def test_options_are_refused_where_nothing_reads_them(name: str) -> None:
    expected = f"launcher.options are given, but launcher={name} does not read them; use launcher=slurm, pbs, sge"
    assert refusal(name=name, options=BATCH_JOB) == expected


@pytest.mark.parametrize("name", ["slurm", "pbs", "sge"])
@pytest.mark.parametrize("options", [None, {}, {"memory": "16GB"}, {"cores": 4}], ids=str)
def test_a_batch_system_needs_the_size_of_a_job(name: str, options: dict[str, Any] | None) -> None:
    expected = f"launcher={name} needs launcher.options.cores and launcher.options.memory of one job"
    assert refusal(name=name, options=options) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "local", "jobs": 8, "threads": 2},
        {"name": "dask"},
        {"name": "dask", "address": "tcp://host:8786"},
        {"name": "dask", "address": "tls://host:8786", "options": {"tls_ca_file": "ca.pem"}},
        {"name": "ray", "address": "auto"},
        *({"name": name, "options": {**BATCH_JOB, "queue": "gpu"}} for name in ("slurm", "pbs", "sge")),
    ],
    ids=str,
)
def test_right_settings_are_accepted(settings: dict[str, Any]) -> None:
    config = changed(**{f"launcher__{name}": value for name, value in settings.items()})
    validate(config)
    assert config.launcher == LauncherConfig(**settings)


# Threads


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tls_ca_file": "/nope/ca.pem"}, r"launcher\.options\.tls_ca_file=/nope/ca\.pem: there is no such file"),
        ({"tls_authority": "x"}, r"launcher\.options: .*tls_authority.*distributed\.Security"),
    ],
)
def test_tls_that_cannot_be_is_refused_before_a_scheduler_is_asked(options: dict[str, str], expected: str) -> None:
    pytest.importorskip("distributed")
    settings = LauncherConfig(name="dask", address="tls://127.0.0.1:1", options=options)
    with pytest.raises(UserError, match=expected), ENGINES["dask"](settings, 0, 1):
        pass


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many cores this process may use."""
    return lambda number: monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(number)), raising=False)


@pytest.mark.parametrize(
    ("settings", "threads"),
    [
        ({}, 0),
        ({"jobs": 2}, 4),
        ({"jobs": 3}, 2),
        ({"jobs": 8}, 1),
        ({"jobs": 20}, 1),
        ({"name": "dask", "jobs": 2}, 4),
        ({"name": "ray", "jobs": 4}, 2),
        ({"jobs": 2, "threads": 7}, 7),
        ({"name": "dask", "address": "tcp://host:8786", "jobs": 2}, 0),
        ({"name": "dask", "address": "tcp://host:8786", "threads": 3}, 3),
        ({"name": "slurm", "jobs": 2, "options": {**BATCH_JOB, "cores": 16}}, 16),
        ({"name": "slurm", "jobs": 2, "options": {**BATCH_JOB, "cores": 16}, "threads": 5}, 5),
    ],
    ids=str,
)
def test_threads_of_a_job(cores: Callable[[int], None], settings: dict[str, Any], threads: int) -> None:
    cores(8)
    config = changed(**{f"launcher__{name}": value for name, value in settings.items()})
    validate(config)
    assert training_threads(config) == threads


def test_threads_where_the_system_does_not_say_what_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert training_threads(changed(launcher__jobs=2)) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert training_threads(changed(launcher__jobs=2)) == 1


# GPUs: which card a job gets

A, B, C, D = (Card(f"GPU-{letter}", "NVIDIA L4") for letter in "abcd")


class Recorder:
    """Calls are taken, and end when they are told to."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []
        self.calls: list[Future[int]] = []

    def __call__(self, call: Call) -> Future[int]:
        self.seen.append(call.environment["CUDA_VISIBLE_DEVICES"])
        self.calls.append(Future())
        return self.calls[-1]


def a_call(tmp_path: Path) -> Call:
    return Call(["true"], str(tmp_path), tmp_path, None)


@pytest.mark.parametrize(
    ("cards", "devices", "blocks"),
    [
        ([A, B, C, D], 1, ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]),
        ([A, B, C, D], 2, ["GPU-a,GPU-b", "GPU-c,GPU-d"]),
        ([A, B, C], 2, ["GPU-a,GPU-b"]),
        ([A, B], 2, ["GPU-a,GPU-b"]),
        ([], 1, []),
    ],
    ids=str,
)
def test_cards_are_divided_into_blocks_of_a_job_s_devices(cards: list[Card], devices: int, blocks: list[str]) -> None:
    assert blocks_of(cards, devices) == blocks


def test_six_jobs_on_four_cards_share_them_evenly(tmp_path: Path) -> None:
    taken = Recorder()
    submit = dividing(taken, blocks_of([A, B, C, D], 1))
    futures = [submit(a_call(tmp_path)) for _ in range(6)]
    assert taken.seen == ["GPU-a", "GPU-b", "GPU-c", "GPU-d", "GPU-a", "GPU-b"]
    del futures


def test_a_job_gets_the_card_that_the_fewest_running_jobs_use(tmp_path: Path) -> None:
    taken = Recorder()
    submit = dividing(taken, blocks_of([A, B, C], 1))
    futures = [submit(a_call(tmp_path)) for _ in range(4)]  # a, b, c, a
    futures[2].set_result(0)
    assert submit(a_call(tmp_path)) is taken.calls[4]
    assert taken.seen[4] == "GPU-c"
    for future in futures[:2]:
        future.set_result(1)
    futures.append(submit(a_call(tmp_path)))  # one runs on a, none on b
    assert taken.seen[5] == "GPU-b"


def test_a_job_of_two_devices_sees_both(tmp_path: Path) -> None:
    taken = Recorder()
    submit = dividing(taken, blocks_of([A, B, C, D], 2))
    futures = [submit(a_call(tmp_path)) for _ in range(3)]
    assert taken.seen == ["GPU-a,GPU-b", "GPU-c,GPU-d", "GPU-a,GPU-b"]
    del futures


def test_no_ended_job_is_held_on_to(tmp_path: Path) -> None:
    """Dask runs the job of a living future again when its worker is lost."""
    taken = Recorder()
    submit = dividing(taken, ["GPU-a"])
    gone = weakref.ref(submit(a_call(tmp_path)))
    taken.calls.clear()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("jobs", "blocks", "devices", "said"),
    [
        (6, 4, 1, "6 jobs share 4 GPUs"),
        (2, 1, 1, "2 jobs share 1 GPU:"),
        (3, 2, 2, "3 jobs share 4 GPUs"),
        (4, 4, 1, None),
        (2, 4, 1, None),
    ],
)
def test_jobs_that_share_cards_are_said(jobs: int, blocks: int, devices: int, said: str | None) -> None:
    line = sharing(jobs, ["block"] * blocks, devices)
    assert line.startswith(said) if said else line == ""


@pytest.mark.parametrize("engine", ["local", "dask", "ray"])
def test_a_sweep_on_this_machine_divides_its_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    fake_cards(tmp_path, monkeypatch, 4)
    taken = Recorder()

    @contextlib.contextmanager
    def ends_at_once(settings: LauncherConfig, gpus: int, threads: int) -> Iterator[Submit]:
        def submit(call: Call) -> Future[int]:
            future = taken(call)
            if len(taken.calls) == 6:
                for each in taken.calls:
                    each.set_result(0)
            return future

        yield submit

    monkeypatch.setitem(launcher.ENGINES, engine, ends_at_once)
    monkeypatch.setattr(Sweep, "_is_ready", lambda self, item, awaited: True)
    knobs: dict[str, Any] = {"launcher__jobs": 6, "launcher__name": engine}
    Sweep([sweep_job(tmp_path, f"job{seed}", seed=seed, **knobs) for seed in range(6)], threads=1).run()
    names = [f"GPU-{number}" for number in (0, 1, 2, 3, 0, 1)]
    assert taken.seen == names
    printed = capsys.readouterr().out.splitlines()
    assert printed.count("6 jobs share 4 GPUs: fewer launcher.jobs, if memory runs out") == 1
    assert printed.count("trains on NVIDIA L4; trainer=cpu keeps it off") == 1


@pytest.mark.parametrize(
    "name", ["local", pytest.param("dask", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.slow)]
)
def test_the_processes_of_every_engine_see_the_cards_that_they_were_given(tmp_path: Path, name: str) -> None:
    package = {"dask": "distributed"}.get(name, name)
    # Not importorskip: Ray reads its settings when it is imported, and those of a Ray of one's own come first.
    if name != "local" and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-c", "import os, sys; open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"]
    calls = [
        Call([*command, str(tmp_path / f"seen{number}")], str(tmp_path), tmp_path / f"job{number}", None)
        for number in range(3)
    ]
    with launcher.ENGINES[name](LauncherConfig(name=name, jobs=3), 1, 1) as submit:
        submit_to_block = dividing(submit, ["GPU-a", "GPU-b", "MIG-c"])
        futures = [submit_to_block(call) for call in calls]
        assert [future.result(PATIENCE) for future in futures] == [0, 0, 0]
    seen = [(tmp_path / f"seen{number}").read_text() for number in range(3)]
    assert seen == ["GPU-a", "GPU-b", "MIG-c"]


def test_jobs_on_other_machines_see_what_these_show_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cards(tmp_path, monkeypatch, 4)
    monkeypatch.setattr("vsrprune.jobs.devices.visible_cards", list)  # the head of a cluster has none
    job = sweep_job(tmp_path, "job", trainer__accelerator="gpu", launcher__name="slurm", launcher__options=BATCH_JOB)
    sweep = Sweep([job], threads=1)
    sweep._alone = False
    assert sweep._blocks(job.job.config.launcher, 1) == []


# Which job may start

BEFORE_SELECT = ("flow", "pretrain", "reference", "score")


def sweep_job(folder: Path, name: str, **knobs: Any) -> SweepJob:
    config = changed(store_dir=str(folder / "store"), tracking__to=[], **knobs)
    return SweepJob(name, name, plan_job(config), folder / "runs" / name, ["python", "src/run.py", name])


def publish(folder: Path, item: SweepJob, *names: str) -> None:
    for name in names:
        target = folder / "store" / name / item.job.stage(name).key
        target.mkdir(parents=True)
        (target / "manifest.json").touch()


def running(item: SweepJob, *others: SweepJob) -> Sweep:
    """A sweep in which the first job runs."""
    sweep = Sweep([item, *others], threads=1)
    sweep._running[Future()] = item
    return sweep


def is_ready(sweep: Sweep, item: SweepJob) -> bool:
    return sweep._is_ready(item, sweep._awaited())


def test_a_job_is_ready_when_nothing_runs(tmp_path: Path) -> None:
    first = sweep_job(tmp_path, "first")
    assert is_ready(Sweep([first], threads=1), first)


def test_a_job_waits_until_its_next_stage_is_published_or_its_own(tmp_path: Path) -> None:
    first, second = sweep_job(tmp_path, "first", ratio=0.3), sweep_job(tmp_path, "second", ratio=0.5)
    sweep = running(first, second)
    for name in BEFORE_SELECT:
        assert not is_ready(sweep, second)
        publish(tmp_path, first, name)
    assert is_ready(sweep, second)


def test_a_job_waits_for_a_stage_that_a_running_one_is_only_about_to_make(tmp_path: Path) -> None:
    """The first makes the reference, and the scores after it; the second needs no reference."""
    first, second = sweep_job(tmp_path, "first"), sweep_job(tmp_path, "second", until="score")
    publish(tmp_path, first, "flow", "pretrain")
    assert not is_ready(running(first, second), second)


def test_a_job_with_its_own_first_stage_does_not_wait(tmp_path: Path) -> None:
    first, second = sweep_job(tmp_path, "first"), sweep_job(tmp_path, "second", pretrain_seed=1)
    assert is_ready(running(first, second), second)


def test_a_job_waits_for_every_running_one(tmp_path: Path) -> None:
    first = sweep_job(tmp_path, "first")
    second, third = (sweep_job(tmp_path, name, pretrain_seed=1, seed=seed) for seed, name in enumerate(["b", "c"]))
    sweep = running(first, second, third)
    assert is_ready(sweep, third)
    sweep._running[Future()] = second
    assert not is_ready(sweep, third)


def test_a_job_that_misses_nothing_is_ready(tmp_path: Path) -> None:
    first, second = sweep_job(tmp_path, "first"), sweep_job(tmp_path, "second", until="score")
    publish(tmp_path, second, "flow", "pretrain", "score")
    assert is_ready(running(first, second), second)


# What becomes of a job


class Engine:
    """Gives each call the next of the scripted ends of its job: an exit code, or an exception of its worker."""

    sweep: Sweep  # that it works for

    def __init__(self, **ends: list[int | Exception]) -> None:
        self.ends = ends
        self.calls: list[str] = []

    @contextlib.contextmanager
    def __call__(self, settings: LauncherConfig, gpus: int, threads: int) -> Iterator[Submit]:
        yield self.submit

    def submit(self, call: Call) -> Future[int]:
        name = call.folder.name
        self.calls.append(name)
        future: Future[int] = Future()
        end = self.ends[name].pop(0)
        if isinstance(end, Exception):
            future.set_exception(end)
        else:
            future.set_result(end)
        return future


@pytest.fixture
def run_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], Sweep]:
    """Runs a sweep of the engine's jobs, one at a time, and leaves its outcomes in `_outcomes`."""

    def run(engine: Engine) -> Sweep:
        monkeypatch.setitem(launcher.ENGINES, "dask", engine)
        knobs = {"launcher__name": "dask", "launcher__jobs": 1}
        sweep = Sweep([sweep_job(tmp_path, name, seed=seed, **knobs) for seed, name in enumerate(engine.ends)], 1)
        engine.sweep = sweep
        sweep._outcomes = sweep.run()
        return sweep

    return run


def test_every_job_is_run_whatever_became_of_those_before(tmp_path: Path, run_sweep: Callable[[Engine], Sweep]) -> None:
    engine = Engine(good=[0], bad=[2], killed=[-signal.SIGKILL], lost=[RuntimeError("no worker")], last=[0])
    sweep = run_sweep(engine)
    ends = {"good": "done", "bad": "failed", "killed": "failed", "lost": "failed", "last": "done"}
    assert sweep._outcomes == ends
    assert engine.calls == list(ends)
    assert sweep.stopped_by == 0
    cards = {name: FailureCard.load(tmp_path / "runs" / name) for name in ends}
    assert {name: card and card.cause for name, card in cards.items()} == {
        "good": None,
        "bad": "ended with exit code 2",
        "killed": "killed (SIGKILL), usually for want of memory",
        "lost": "its worker was lost (RuntimeError)",
        "last": None,
    }
    assert cards["lost"].command == "python src/run.py lost"


def test_jobs_whose_network_changed_fail_with_the_reason_and_do_not_start(
    tmp_path: Path, run_sweep: Callable[[Engine], Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(first=[0], second=[0])
    monkeypatch.setattr(launcher, "changed_network", lambda job: "the file changed" if engine.calls else "")
    assert run_sweep(engine)._outcomes == {"first": launcher.DONE, "second": launcher.FAILED}
    assert engine.calls == ["first"]
    card = FailureCard.load(tmp_path / "runs" / "second")
    assert card is not None
    assert card.cause == "the file changed"
    assert "run the sweep again" in card.advice


def test_a_card_says_how_far_a_killed_job_was(tmp_path: Path, run_sweep: Callable[[Engine], Sweep]) -> None:
    JobState(tmp_path / "runs" / "killed").stage("sparsify")
    run_sweep(Engine(killed=[-signal.SIGKILL]))
    assert FailureCard.load(tmp_path / "runs" / "killed").stage == "sparsify"


def test_a_job_that_its_machine_stops_is_queued_again_behind_the_others(run_sweep: Callable[[Engine], Sweep]) -> None:
    engine = Engine(moved=[PREEMPTED] * REQUEUES + [0], other=[0])
    assert run_sweep(engine)._outcomes == {"moved": "done", "other": "done"}
    assert engine.calls == ["moved", "other"] + ["moved"] * REQUEUES


def test_a_job_that_its_machine_stops_for_ever_fails(tmp_path: Path, run_sweep: Callable[[Engine], Sweep]) -> None:
    engine = Engine(moved=[PREEMPTED] * (REQUEUES + 1))
    assert run_sweep(engine)._outcomes == {"moved": "failed"}
    card = FailureCard.load(tmp_path / "runs" / "moved")
    assert card.cause == f"asked to stop by its machine again and again (exit code {PREEMPTED})"
    assert "launcher.options.walltime" in card.advice


class Interrupted(Engine):
    """Its first job runs until the sweep, which is sent a signal meanwhile, asks it to stop."""

    def __init__(self, number: int, code: int = PREEMPTED, **ends: list[int | Exception]) -> None:
        super().__init__(**ends)
        self._number, self._code = number, code

    def submit(self, call: Call) -> Future[int]:
        self.calls.append(call.folder.name)
        future: Future[int] = Future()
        future.set_running_or_notify_cancel()
        threading.Thread(target=self._run, args=(call, future)).start()
        return future

    def _run(self, call: Call, future: Future[int]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.sweep._running and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), self._number)
        while not (call.folder / STOP).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        future.set_result(self._code if (call.folder / STOP).exists() else 0)


@pytest.mark.parametrize("ends_with", ["its own code", "the signal"])  # as between trainings
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, PREEMPTED), (signal.SIGINT, INTERRUPTED)])
def test_a_signal_asks_the_running_job_to_stop_and_starts_nothing_more(
    tmp_path: Path, run_sweep: Callable[[Engine], Sweep], number: int, code: int, ends_with: str
) -> None:
    engine = Interrupted(number, PREEMPTED if ends_with == "its own code" else -number, first=[], second=[])
    sweep = run_sweep(engine)
    assert engine.calls == ["first"]
    assert sweep._outcomes == {"first": "stopped", "second": "stopped"}
    assert sweep.stopped_by == code
    assert not any(tmp_path.glob("runs/**/failure.json"))


def test_the_handlers_of_signals_are_put_back(run_sweep: Callable[[Engine], Sweep]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    run_sweep(Engine(good=[0]))
    assert signal.getsignal(signal.SIGTERM) is before
