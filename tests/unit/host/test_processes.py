"""A job's process: its exit code, its output and environment, and how it is asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from vsrprune.host import processes
from vsrprune.host.processes import CHECKOUT, PREEMPTED, STOP, ask_to_stop, run_child, run_elsewhere

PATIENCE = 30
LEAVES = "trap 'exit 143' TERM"  # as a job does that wrote its checkpoint
WAITS = "touch ready; while :; do sleep 0.02; done"

Start = Callable[[str], "Future[int]"]


@pytest.fixture(autouse=True)
def polls_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a shell script in a thread, as the launcher does; whatever happens, nothing of it is left."""
    begun: list[Future[int]] = []

    def begin(script: str) -> Future[int]:
        begun.append(pool.submit(shell, script, tmp_path))
        return begun[-1]

    with ThreadPoolExecutor() as pool:
        yield begin
        for future in begun:
            if not future.done():
                os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def shell(
    script: str, folder: Path, log: Path | None = None, environment: Mapping[str, str | None] | None = None
) -> int:
    """run_child on a shell script that runs in `folder` and writes its number to `pid`."""
    folder.mkdir(exist_ok=True)
    return run_child(["sh", "-c", f"echo $$ > pid; {script}"], str(folder), folder, log, environment)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether a process of another parent has ended; nobody may have waited for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("code", [0, 1, 2, 130, PREEMPTED])
def test_the_exit_code_is_that_of_the_command(tmp_path: Path, code: int) -> None:
    assert shell(f"exit {code}", tmp_path) == code


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM"])
def test_a_signal_that_nobody_asked_for_is_a_negative_code(tmp_path: Path, name: str) -> None:
    assert shell(f"kill -{name} $$", tmp_path) == -signal.Signals[f"SIG{name}"]


def test_the_folder_of_the_job_is_made_and_the_command_runs_in_the_callers(tmp_path: Path) -> None:
    folder = tmp_path / "sweep" / "job"
    assert run_child(["sh", "-c", "pwd > here"], str(tmp_path), folder, folder / "output.log") == 0
    assert folder.is_dir()
    assert Path((tmp_path / "here").read_text().strip()).samefile(tmp_path)


def test_a_command_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_child([str(tmp_path / "nothing")], str(tmp_path), tmp_path)


# Output and environment


def test_output_and_errors_are_appended_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "output.log"
    log.write_text("before\n")
    for word in ("one", "two"):
        assert shell(f"echo {word}; echo {word} failed >&2", tmp_path, log) == 0
    assert log.read_text().splitlines() == ["before", "one", "one failed", "two", "two failed"]
    assert capfd.readouterr() == ("", "")


def test_without_a_log_the_output_is_this_processes_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert shell("echo said; echo complained >&2", tmp_path) == 0
    assert capfd.readouterr() == ("said\n", "complained\n")


def test_the_environment_is_this_processes_with_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEPT", "CHANGED", "DROPPED"):
        monkeypatch.setenv(name, "old")
    monkeypatch.delenv("ADDED", raising=False)
    changes = {"CHANGED": "new", "ADDED": "", "DROPPED": None, "NEVER_THERE": None}
    log = tmp_path / "output.log"
    names = ("KEPT", "CHANGED", "ADDED", "DROPPED", "NEVER_THERE")
    script = "; ".join(f'echo "${{{name}-unset}}"' for name in names)
    assert shell(script, tmp_path, log, changes) == 0
    assert log.read_text().splitlines() == ["old", "new", "", "unset", "unset"]
    assert os.environ["DROPPED"] == "old"


# Stopping


@pytest.mark.parametrize("handler", [LEAVES, ":"], ids=["leaves by itself", "dies of the signal"])
def test_a_stop_file_sends_sigterm_and_the_job_counts_as_preempted(tmp_path: Path, start: Start, handler: str) -> None:
    job = start(f"{handler}; {WAITS}")
    until((tmp_path / "ready").exists)
    assert not job.done()
    ask_to_stop(tmp_path)
    assert job.result(PATIENCE) == PREEMPTED
    assert not (tmp_path / STOP).exists()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_job_that_ends_otherwise_when_asked_keeps_its_code(tmp_path: Path, start: Start, code: int) -> None:
    """It finished meanwhile, or failed while it stopped."""
    job = start(f"trap 'exit {code}' TERM; {WAITS}")
    until((tmp_path / "ready").exists)
    ask_to_stop(tmp_path)
    assert job.result(PATIENCE) == code
    assert not (tmp_path / STOP).exists()


def test_a_job_is_asked_only_once(tmp_path: Path, start: Start) -> None:
    """A checkpoint takes time, and a second signal would cut it short."""
    job = start("trap 'echo asked >> signals' TERM; touch ready; until [ -e leave ]; do sleep 0.02; done; exit 143")
    until((tmp_path / "ready").exists)
    ask_to_stop(tmp_path)
    until((tmp_path / "signals").exists)
    time.sleep(10 * processes.POLL_SECONDS)
    (tmp_path / "leave").touch()
    assert job.result(PATIENCE) == PREEMPTED
    assert (tmp_path / "signals").read_text() == "asked\n"


def test_a_stop_file_of_an_earlier_run_is_ignored(tmp_path: Path, start: Start) -> None:
    ask_to_stop(tmp_path)
    job = start("for _ in 1 2 3 4 5 6 7 8; do sleep 0.05; done; exit 5")  # several looks long
    assert job.result(PATIENCE) == 5
    assert not (tmp_path / STOP).exists()


def test_asking_needs_no_folder_yet(tmp_path: Path) -> None:
    ask_to_stop(tmp_path / "sweep" / "job")
    assert (tmp_path / "sweep" / "job" / STOP).is_file()


PARENT = """
import sys
from pathlib import Path
from vsrprune.host.processes import run_child
folder = Path(sys.argv[1])
run_child(["sh", "-c", "echo $$ > pid; trap 'touch asked; exit 143' TERM; " + sys.argv[2]], str(folder), folder)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_the_child_is_asked_to_stop_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), WAITS])
    until((tmp_path / "ready").exists)
    pid = int((tmp_path / "pid").read_text())
    try:
        assert not is_gone(pid)
        parent.kill()
        parent.wait(PATIENCE)
        until(lambda: is_gone(pid))
        assert (tmp_path / "asked").exists()
    finally:
        if not is_gone(pid):
            os.kill(pid, signal.SIGKILL)


# On a machine that shares no folder


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of another machine, whose job writes what it was given into its folder."""
    (tmp_path / "there" / "src").mkdir(parents=True)
    (tmp_path / "there" / "src" / "run.py").write_text(
        "import os, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "(folder / 'crops').mkdir()\n"
        "(folder / 'crops' / 'a.png').write_bytes(b'crop')\n"
        "(folder / 'link').symlink_to('/etc/hostname')\n"
        "(folder / 'result.json').write_text(' '.join([os.getcwd(), sys.argv[2], os.environ['TOLD']]))\n"
        "print('done')\n"
        "sys.exit(3)\n"
    )
    monkeypatch.setenv(CHECKOUT, str(tmp_path / "there"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / "there"


def test_a_job_elsewhere_gives_its_exit_code_and_the_files_of_its_folder(checkout: Path, tmp_path: Path) -> None:
    arguments = ["/here/project/src/run.py", "{folder}", "--config-dir=/here/project/sweeps"]
    code, files = run_elsewhere("/here/project", arguments, {"TOLD": "x"})
    assert code == 3
    assert files == {
        "crops/a.png": b"crop",
        "output.log": b"done\n",
        "result.json": f"{checkout} --config-dir={checkout}/sweeps x".encode(),
    }
    assert not list(tmp_path.glob("vsrprune-job-*"))


def test_a_worker_without_the_project_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHECKOUT, raising=False)
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="set VSRPRUNE_CHECKOUT there, or start it in one"):
        run_elsewhere("/nowhere", ["x"], {})
