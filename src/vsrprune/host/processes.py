"""Run a job's command as a child process, here or on another machine of the same file system."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP = "stop"  # a file of this name in a job's folder asks its process to write a checkpoint and leave
POLL_SECONDS = 0.5
PREEMPTED = 143  # exit code of a job that was asked to stop and wrote a checkpoint
_PR_SET_PDEATHSIG = 1
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None  # looked up before any fork


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
            preexec_fn=die_with_parent,
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


def ask_to_stop(folder: Path) -> None:
    """Ask the job in `folder` to write a checkpoint and leave, wherever it runs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).touch()


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**os.environ, **changes}.items() if value is not None}


def die_with_parent() -> None:
    """Have the kernel send this process SIGTERM when the thread that started it is gone; Linux only."""
    # Else a worker that is killed would leave its job training, while the job is started again elsewhere.
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)
