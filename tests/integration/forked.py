"""Scripts in processes of their own that begin with torch, Lightning and wandb imported: each start saves 4 seconds.

A server imports them once and forks for every script, as multiprocessing's forkserver does. The process is a real one:
it has its own pid, arguments, environment, working folder, output and exit code, and takes signals. What must not be
imported (`no_torch`), and jobs of sweeps, which the launcher starts by itself, start from nothing as always.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

OUTPUT = ("stdout", "stderr")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "hydra", "rich.console", "wandb", "vsrprune.stages.run"])


class Script:
    """A running script; the part of subprocess.Popen that the tests use. It leads a session of its own."""

    def __init__(self, arguments: Sequence[object], cwd: Path, environment: Mapping[str, str] | None = None) -> None:
        self.args = [sys.executable, *map(str, arguments)]
        self._output = tempfile.TemporaryDirectory()
        given = {**os.environ, **(environment or {})}
        self._process = CONTEXT.Process(target=_become, args=(self.args[1:], str(cwd), given, self._output.name))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed on stdout and on stderr, once it has ended; errors as `wait`."""
        self.wait(timeout)
        out, err = (Path(self._output.name, name).read_text() for name in OUTPUT)
        return out, err


def run_script(
    arguments: Sequence[object], cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`python script arguments`, to its end: arguments[0] is the script; `environment` is added to this process's."""
    script = Script(arguments, cwd, environment)
    try:
        out, err = script.communicate(timeout=600)
    finally:
        script.send_signal(signal.SIGKILL)
    return subprocess.CompletedProcess(script.args, script.wait(), out, err)


def _become(arguments: list[str], cwd: str, environment: dict[str, str], output: str) -> None:
    """In the new process: be what `python script arguments` would be."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup ignore it, and scripts would too
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(OUTPUT, start=1):
        os.dup2(os.open(Path(output, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")
