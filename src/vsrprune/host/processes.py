"""Run a job's command as a child process: here, on a machine of the same file system, or on one that shares nothing."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

STOP = "stop"  # a file of this name in a job's folder asks its process to write a checkpoint and leave
POLL_SECONDS = 0.5
CHECKOUT = "VSRPRUNE_CHECKOUT"  # the variable by which a worker says where the project lies, if nowhere usual
RUN = "src/run.py"  # in a checkout
FOLDER = "{folder}"  # in an argument: the folder that the job has on its machine
OUTPUT = "output.log"  # what a job printed, where jobs run side by side
LARGEST = 64 * 2**20  # bytes of a result file that is brought back
PREEMPTED = 143  # exit code of a job that was asked to stop and wrote a checkpoint
_PR_SET_PDEATHSIG = 1


def run_child(
    command: Sequence[str],
    cwd: str,
    folder: Path,
    log: Path | None = None,
    environment: Mapping[str, str | None] | None = None,
) -> int:
    """Run `command` to its end; its exit code, negative for a signal, PREEMPTED if it was asked to stop.

    log: a file to which its output is appended; None sends it where this process writes. environment: variables to set
    (None: to unset) in addition to those of this process. The file `folder`/stop asks the child to stop (SIGTERM), and
    so does the death of this process, however it dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).unlink(missing_ok=True)  # of the last try
    with contextlib.ExitStack() as stack:
        output = None if log is None else stack.enter_context(log.open("ab"))
        child = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=_environment(environment or {}),
            stdout=output,
            stderr=None if log is None else subprocess.STDOUT,
            preexec_fn=dying_with_parent(),
        )
        asked = False
        while True:
            try:
                code = child.wait(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if not asked and (folder / STOP).exists():
                    asked = True
                    child.send_signal(signal.SIGTERM)
                continue
            (folder / STOP).unlink(missing_ok=True)
            # Asked early, before it has a handler, the child dies of the signal itself: it was stopped all the same.
            return PREEMPTED if asked and code in (-signal.SIGTERM, PREEMPTED) else code


def run_elsewhere(
    root: str, arguments: Sequence[str], environment: Mapping[str, str | None]
) -> tuple[int, dict[str, bytes]]:
    """Run a job on a machine that shares no folder with whoever asks; its exit code, and its folder's files.

    root: the project's folder where this was asked for; paths below it are those of this machine's checkout here.
    arguments: of Python, FOLDER standing for the job's folder.
    """
    checkout = _checkout(root)
    folder = Path(tempfile.mkdtemp(prefix="vsrprune-job-"))
    try:
        here = [item.replace(root, str(checkout)).replace(FOLDER, str(folder)) for item in arguments]
        # Its modules may be nowhere but in the checkout, which a cluster brings for each job.
        path = os.pathsep.join([str(checkout / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
        # The command is of another machine's Python; this one runs the worker, and has what it needs.
        command = [sys.executable, *here]
        code = run_child(command, str(checkout), folder, folder / OUTPUT, {**environment, "PYTHONPATH": path})
        files = {
            found.relative_to(folder).as_posix(): found.read_bytes()
            for found in sorted(folder.rglob("*"))
            if found.is_file() and not found.is_symlink() and found.stat().st_size <= LARGEST
        }
        return code, files
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _checkout(root: str) -> Path:
    """Where the project lies on this machine. Raises FileNotFoundError, which says what to do."""
    found = importlib.util.find_spec("vsrprune")
    installed = found and found.origin and Path(found.origin).parents[2]
    places = [os.environ.get(CHECKOUT), os.getcwd(), installed, root]
    for place in places:
        if place and Path(place, RUN).is_file():
            return Path(place).absolute()
    raise FileNotFoundError(f"no checkout of the project on this worker: set {CHECKOUT} there, or start it in one")


def ask_to_stop(folder: Path) -> None:
    """Ask the job in `folder` to write a checkpoint and leave, wherever it runs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).touch()


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**os.environ, **changes}.items() if value is not None}


def dying_with_parent() -> Callable[[], None]:
    """For a child to call first: the kernel sends it SIGTERM when the thread that started it is gone; Linux only."""
    # Looked up before the fork; and no value of this module, which is sent to workers by its code.
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def die_with_parent() -> None:
        # Else a worker that is killed would leave its job training, while the job is started again elsewhere.
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return die_with_parent
