"""The same sweep on every engine: same results, no stage twice, and no fault costs more than the job it hits."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import minimal_overrides, run_py
from test_faults import start, until

from vsrprune.host.failures import FailureCard

PATIENCE = 120
SIX = ("rsc=true,false", "ratio=0.3,0.5,0.7")
TWO = ("rsc=true,false", "ratio=0.5")
# One thread everywhere: sums over several threads may be added in another order, and all bits are compared here.
PLAIN = ["tracking=none", "launcher.threads=1", "trainer.threads=1"]
# Two jobs with a pretraining each, and no checkpoints but those that they are asked for.
TRAIN_LONG = ["pretrain_seed=0,1", "until=pretrain", "schedule.pretrain.steps=400", "schedule.checkpoint_every=100000"]

LOCAL, DASK, RAY = ["launcher=local", "launcher.jobs=2"], ["launcher=dask"], ["launcher=ray"]
NEEDS_DASK = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
NEEDS_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

pytestmark = ON_LINUX

Launch = Callable[..., "subprocess.Popen[str]"]


def sweep_arguments(folder: Path, *more: str) -> list[str]:
    """A sweep over `more` with its store and runs in `folder`."""
    return ["-m", *minimal_overrides(folder), *PLAIN, *more]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """test_faults.start, leaving no process behind."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        begun.append(start(*arguments))
        return begun[-1]

    yield begin
    for process in begun:
        end_session(process)


def end_session(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a process that leads a session, and of all that it started."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(stat_fields(int(path.name))[3]) == process.pid:
                os.kill(int(path.name), signal.SIGKILL)
    process.wait(PATIENCE)


def stat_fields(pid: int) -> list[str]:
    """State, parent, group, session ... of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def parent_of(pid: int) -> int:
    return int(stat_fields(pid)[1])


def is_gone(pid: int) -> bool:
    try:
        return stat_fields(pid)[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def pids_of_jobs(folder: Path, stage: str) -> dict[str, int]:
    """Processes that compute a stage right now, by its key."""
    pids = {}
    for lease in folder.glob(f"store/leases/{stage}-*.json"):
        with contextlib.suppress(FileNotFoundError):
            pids[lease.stem.removeprefix(f"{stage}-")] = int(json.loads(lease.read_text())["pid"])
    return pids


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def results(folder: Path) -> dict[str, str]:
    """result.json of every job."""
    return {path.parent.name: path.read_text() for path in folder.glob("runs/**/result.json")}


def made(folder: Path) -> Counter[str]:
    """How many times the jobs say that they made each kind of stage."""
    logs = [path.read_text() for path in folder.glob("runs/**/output.log")]
    return Counter(stage for log in logs for stage in re.findall(r"^  (\w+) +done in", log, re.MULTILINE))


def published(folder: Path) -> Counter[str]:
    """How many of each kind of stage the store has."""
    return Counter(path.parts[-3] for path in folder.glob("store/*/*/manifest.json"))


def check_same_end(folder: Path, jobs: int, done: subprocess.CompletedProcess[str], reference: dict[str, str]) -> None:
    """It ended as the plain run did, made every stage once, and the same command has nothing left to do."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{jobs} jobs: {jobs} done, 0 reused, 0 failed" in done.stdout
    assert len(reference) == jobs
    assert results(folder) == reference
    assert made(folder) == published(folder)
    assert published(folder)["pretrain"] == 1
    again = run_py(*done.args[2:])
    assert again.returncode == 0, again.stderr
    assert f"{jobs} jobs: 0 done, {jobs} reused, 0 failed" in again.stdout


# The same results


@pytest.fixture(scope="module")
def two_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """result.json of the jobs of TWO, one after the other."""
    folder = tmp_path_factory.mktemp("two")
    done = run_py(*sweep_arguments(folder, *TWO, "launcher=local"))
    assert done.returncode == 0, done.stdout + done.stderr
    return results(folder)


@pytest.mark.parametrize(
    "settings",
    [pytest.param(LOCAL, id="local"), pytest.param(DASK, id="dask", marks=[pytest.mark.slow, NEEDS_DASK])],
)
def test_two_jobs_at_once_end_like_one_after_the_other(
    tmp_path: Path, two_results: dict[str, str], settings: list[str]
) -> None:
    check_same_end(tmp_path, 2, run_py(*sweep_arguments(tmp_path, *TWO, *settings)), two_results)


@pytest.fixture(scope="module")
def six_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("six")
    done = run_py(*sweep_arguments(folder, *SIX, "launcher=local"))
    assert done.returncode == 0, done.stdout + done.stderr
    return results(folder)


@pytest.fixture
def dask_address(tmp_path: Path) -> Iterator[str]:
    """A scheduler and one worker for two jobs, started by other commands, as on a cluster."""
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = ["dask_scheduler", "--host", address, "--no-dashboard"]
    worker = ["dask_worker", address, "--nthreads=2", "--memory-limit=0", "--no-dashboard"]
    worker += [f"--local-directory={tmp_path}"]
    with contextlib.ExitStack() as stack:
        for command in (scheduler, worker):
            stack.enter_context(daemon([sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]], tmp_path))
        yield address


@pytest.fixture
def ray_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray cluster of one machine with two cores."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # by default it depends on what lies in the home folder
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    port = free_port()
    folder = tempfile.mkdtemp(prefix="ray")  # the names of Ray's sockets must be short
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}"]
    command += ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder}"]
    try:
        with daemon([*command, "--disable-usage-stats"], tmp_path) as process:
            until(lambda: "Ray runtime started" in (tmp_path / "daemon.log").read_text(), process)
            yield f"127.0.0.1:{port}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def daemon(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A server in a session of its own, which writes daemon.log; all of the session is gone at the end."""
    with (folder / "daemon.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        end_session(process)  # and what did not go with it


@pytest.mark.slow
@pytest.mark.parametrize("settings", [LOCAL, pytest.param(DASK, marks=NEEDS_DASK)], ids=["local", "dask"])
def test_six_jobs_end_alike(tmp_path: Path, six_results: dict[str, str], settings: list[str]) -> None:
    check_same_end(tmp_path, 6, run_py(*sweep_arguments(tmp_path, *SIX, *settings)), six_results)


@pytest.mark.slow
@NEEDS_DASK
def test_six_jobs_end_alike_on_a_dask_cluster(tmp_path: Path, six_results: dict[str, str], dask_address: str) -> None:
    done = run_py(*sweep_arguments(tmp_path, *SIX, *DASK, f"launcher.address={dask_address}"))
    check_same_end(tmp_path, 6, done, six_results)


@pytest.mark.slow
@NEEDS_RAY
def test_six_jobs_end_alike_on_a_ray_cluster(tmp_path: Path, six_results: dict[str, str], ray_address: str) -> None:
    done = run_py(*sweep_arguments(tmp_path, *SIX, *RAY, f"launcher.address={ray_address}"))
    check_same_end(tmp_path, 6, done, six_results)


# Jobs that fail; one after the other they do so in test_faults, which is not slow

EVERYWHERE = [
    pytest.param(LOCAL, id="local", marks=pytest.mark.slow),
    pytest.param(DASK, id="dask", marks=[pytest.mark.slow, NEEDS_DASK]),
    pytest.param(RAY, id="ray", marks=[pytest.mark.slow, NEEDS_RAY]),
]


@pytest.mark.parametrize("settings", EVERYWHERE)
def test_a_job_that_raises_and_one_that_is_killed_cost_no_other(
    tmp_path: Path, launch: Launch, settings: list[str]
) -> None:
    killed, raising, *others = (f"schedule.pretrain.lr={lr}" for lr in ("1.0e-3", "1.0e+30", "2.0e-3", "3.0e-3"))
    axis = "schedule.pretrain.lr=1.0e-3,1.0e+30,2.0e-3,3.0e-3"  # a pretraining of its own for each job
    command = sweep_arguments(tmp_path, axis, "schedule.pretrain.steps=60", *settings)
    found: dict[str, int] = {}

    def victim_trains() -> bool:
        for key, pid in pids_of_jobs(tmp_path, "pretrain").items():
            if "schedule.pretrain.lr=0.001" in command_of(pid).split("\0") and any(  # as Hydra passes it on
                tmp_path.glob(f"store/unfinished/pretrain-{key}/*/*.sha256")
            ):
                found[key] = pid
        return bool(found)

    sweep = launch(*command)
    until(victim_trains, sweep)
    ((key, pid),) = found.items()
    os.kill(pid, signal.SIGKILL)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 1, output
    assert "4 jobs: 2 done, 0 reused, 2 failed" in output
    assert "Traceback" not in output
    cards = {path.parent.name: FailureCard.load(path.parent) for path in tmp_path.glob("runs/**/failure.json")}
    assert set(cards) == {killed, raising}
    assert {card.stage for card in cards.values() if card} == {"pretrain"}
    assert cards[killed].cause == "killed (SIGKILL), usually for want of memory"
    assert "the loss is not finite" in cards[raising].cause
    assert {name: raising in card.command for name, card in cards.items()} == {killed: False, raising: True}
    assert set(results(tmp_path)) == set(others)
    assert any(tmp_path.glob(f"store/unfinished/pretrain-{key}/*/*.sha256"))
    again = run_py(*command)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "4 jobs: 1 done, 2 reused, 1 failed" in again.stdout
    assert set(results(tmp_path)) == {killed, *others}
    assert [path.parent.name for path in tmp_path.glob("runs/**/failure.json")] == [raising]


# Sweeps that are stopped


def rows(curves: Path) -> int:
    try:
        return len(curves.read_text().splitlines())
    except FileNotFoundError:
        return 0


def both_train(folder: Path) -> bool:
    """Whether two jobs pretrain, far from their end."""
    curves = list(folder.glob("store/unfinished/pretrain-*/*/metrics.jsonl"))
    return len(curves) == 2 and all(0 < rows(path) < 250 for path in curves)


def checkpoints(folder: Path) -> int:
    return len(list(folder.glob("store/unfinished/pretrain-*/*/step-*.sha256")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGTERM, 143, id="SIGTERM"), pytest.param(signal.SIGINT, 130, id="SIGINT")],
)
def test_a_signal_to_the_sweep_has_all_running_jobs_write_checkpoints(
    tmp_path: Path, launch: Launch, number: int, code: int
) -> None:
    command = sweep_arguments(tmp_path, *TRAIN_LONG, *LOCAL)
    sweep = launch(*command)
    until(lambda: both_train(tmp_path), sweep)
    assert checkpoints(tmp_path) == 0
    sweep.send_signal(number)  # to the parent alone, as a scheduler may do
    check_stopped(tmp_path, sweep, code)
    check_goes_on(command)


def check_stopped(folder: Path, sweep: subprocess.Popen[str], code: int) -> None:
    """The two jobs that ran wrote checkpoints, and no job failed."""
    output, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == code, output
    assert "2 jobs: 0 done, 0 reused, 0 failed, 2 stopped" in output
    assert "stopped; the same command goes on where the jobs are" in output
    assert checkpoints(folder) == 2
    assert not any(folder.glob("runs/**/failure.json"))


def check_goes_on(command: list[str]) -> None:
    again = run_py(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 jobs: 2 done, 0 reused, 0 failed" in again.stdout


@pytest.mark.slow
@NEEDS_DASK
def test_a_signal_to_a_sweep_on_dask_has_all_running_jobs_write_checkpoints(tmp_path: Path, launch: Launch) -> None:
    # Long enough that the jobs still train when Dask's own workers are at their end.
    command = sweep_arguments(tmp_path, *TRAIN_LONG, *DASK, "schedule.pretrain.steps=2000")
    sweep = launch(*command)
    until(lambda: both_train(tmp_path), sweep)
    sweep.send_signal(signal.SIGTERM)
    check_stopped(tmp_path, sweep, 143)
    check_goes_on(command)


@pytest.mark.slow
def test_the_jobs_of_a_sweep_that_is_killed_leave_by_themselves(tmp_path: Path, launch: Launch) -> None:
    command = sweep_arguments(tmp_path, *TRAIN_LONG, *LOCAL)
    sweep = launch(*command)
    until(lambda: both_train(tmp_path), sweep)
    pids = pids_of_jobs(tmp_path, "pretrain").values()
    assert len(pids) == 2
    assert {parent_of(pid) for pid in pids} == {sweep.pid}
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait(PATIENCE)
    eventually(lambda: all(is_gone(pid) for pid in pids))
    assert checkpoints(tmp_path) == 2
    check_goes_on(command)


@pytest.mark.slow
@NEEDS_DASK
def test_a_job_whose_dask_worker_is_killed_is_done_on_another(tmp_path: Path, launch: Launch) -> None:
    sweep = launch(*sweep_arguments(tmp_path, *TRAIN_LONG, *DASK))
    until(lambda: both_train(tmp_path), sweep)
    pid = next(iter(pids_of_jobs(tmp_path, "pretrain").values()))
    worker = parent_of(pid)
    assert worker != sweep.pid
    os.kill(worker, signal.SIGKILL)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, output
    assert "2 jobs: 2 done, 0 reused, 0 failed" in output
    assert not any(tmp_path.glob("runs/**/failure.json"))
    assert made(tmp_path) == published(tmp_path)
    logs = [path.read_text() for path in tmp_path.glob("runs/**/output.log")]
    assert sorted(log.count("asked to stop (SIGTERM)") for log in logs) == [0, 1]


# Extras


@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_is_refused_before_any_job(tmp_path: Path, engine: str, package: str) -> None:
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / f"{package}.py").write_text(f"raise ImportError('not here', name={package!r})\n")
    done = run_py(*sweep_arguments(tmp_path, *TWO, f"launcher={engine}"), path=[missing])
    assert done.returncode == 2, done.stdout
    assert done.stderr == (
        f"error: launcher={engine} needs packages that are not installed ({package}): pip install -e '.[launchers]'\n"
    )
    assert "(started)" not in done.stdout
    assert not any(tmp_path.glob("runs/**/output.log"))
    assert not any(tmp_path.glob("store/*/*"))
