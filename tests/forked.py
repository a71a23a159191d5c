"""Scripts in processes of their own that begin with torch, Lightning and wandb imported: each start saves 5 seconds.

A server imports them once and forks for every script, as multiprocessing's forkserver does. The process is a real one:
it has its own pid, arguments, environment, working folder, output and exit code, and takes signals. The processes that
it starts itself, jobs of a sweep and the description of a network of one's own, are forked from it in the same way and
are its children. What must not be imported (`no_torch`), and what a test starts by subprocess, starts from nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "pytest",
        "hydra",
        "rich.console",
        "wandb",
        "wandb.sdk.launch.inputs.internal",  # 1.3 s, which wandb imports when a run begins
        "requests",
        "opentelemetry.exporter.otlp.proto.http.metric_exporter",
        "matplotlib.pyplot",
        "pandas",
        "optuna",
        "vsrprune.stages.run",
        "vsrprune.jobs.runner",
        "warmed",
    ]
)
FORK = multiprocessing.get_context("fork")  # for the scripts themselves, which compute nothing before they start others


class Child:
    """What `python arguments` would start, forked; the part of subprocess.Popen that the launcher uses.

    stdout, stderr: files, or None for this process's own, or subprocess.STDOUT.
    """

    def __init__(
        self,
        command: Sequence[object],
        *,
        context: BaseContext = FORK,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        **others: Any,
    ) -> None:
        self.args = [*map(str, command)]
        assert self.args[0] == sys.executable, f"not this Python: {self.args[0]}"
        self._process = context.Process(  # type: ignore[attr-defined]
            target=_become_and_end, args=(self.args[1:], str(cwd or Path.cwd()), dict(env or os.environ)), kwargs=others
        )
        self._process.start()
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode  # type: ignore[no-any-return]

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


class Script(Child):
    """A running script, forked by the server. It leads a session of its own, and what it prints is kept.

    arguments: those of Python: a script's path, -m and a module, or -c and code, then the script's own. environment is
    added to this process's. stdin: what it reads.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        *,
        context: BaseContext = CONTEXT,
        stdin: str | bytes = "",
    ) -> None:
        self._output = tempfile.TemporaryDirectory()
        folder = Path(self._output.name)
        (folder / "stdin").write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        for name in ("stdout", "stderr"):
            (folder / name).touch()
        super().__init__(
            [sys.executable, *arguments],
            context=context,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=str(folder / "stdin"),
            stdout=str(folder / "stdout"),
            stderr=str(folder / "stderr"),
            preexec_fn=_lead_a_session,
        )

    def printed(self) -> str:
        """What it has printed on stdout so far."""
        return Path(self._output.name, "stdout").read_text()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed on stdout and on stderr, once it has ended; errors as `wait`."""
        self.wait(timeout)
        out, err = (Path(self._output.name, name).read_text() for name in ("stdout", "stderr"))
        return out, err


def run_script(
    arguments: Sequence[object], cwd: Path, environment: Mapping[str, str] | None = None, **others: Any
) -> subprocess.CompletedProcess[str]:
    """`python arguments`, to its end; arguments as `Script`."""
    script = Script(arguments, cwd, environment, **others)
    try:
        out, err = script.communicate(timeout=600)
    finally:
        script.send_signal(signal.SIGKILL)
    return subprocess.CompletedProcess(script.args, script.wait(), out, err)


def described_by(context: BaseContext) -> SimpleNamespace:
    """In place of `subprocess` in vsrprune.networks.own.spec: forks the process that describes a network."""

    def run(command: Sequence[str], *, input: str, env: Mapping[str, str], **others: Any) -> Any:
        return run_script(command[1:], Path.cwd(), env, context=context, stdin=input)

    return SimpleNamespace(run=run)


def timed_by(context: BaseContext) -> SimpleNamespace:
    """In place of `subprocess` in vsrprune.jobs.speed: forks the process that times a network."""

    def run(command: Sequence[str], *, input: bytes, env: Mapping[str, str], **others: Any) -> Any:
        done = run_script(command[1:], Path.cwd(), env, context=context, stdin=input)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.encode(), done.stderr.encode())

    return SimpleNamespace(run=run, TimeoutExpired=subprocess.TimeoutExpired)


def _lead_a_session() -> None:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that run under nohup ignore it, and scripts would too


def _become_and_end(arguments: list[str], cwd: str, environment: dict[str, str], **others: Any) -> None:
    """As `_become`, and ends the process: what waits for the threads of the process that forked it is left out."""
    code = 0
    try:
        _become(arguments, cwd, environment, **others)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become(
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    stdin: str = os.devnull,
    stdout: Any = None,
    stderr: Any = None,
    preexec_fn: Callable[[], None] = lambda: None,
) -> None:
    """In the new process: be what `python arguments` would be."""
    preexec_fn()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    _redirect(stdin, stdout, stderr)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    _forget_and_patch(arguments)
    for folder in reversed(environment.get("PYTHONPATH", "").split(os.pathsep)):
        if folder and folder not in sys.path:  # else the process that forked this one has run its sitecustomize
            sys.path.insert(0, folder)
            if (Path(folder) / "sitecustomize.py").is_file():
                runpy.run_path(str(Path(folder) / "sitecustomize.py"))
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        return
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    runpy.run_path(arguments[0], run_name="__main__")


def _redirect(stdin: str, stdout: Any, stderr: Any) -> None:
    """Set the three streams: paths are opened, files taken, None is left."""
    os.dup2(os.open(stdin, os.O_RDONLY), 0)
    for number, target in enumerate((stdout, stderr), start=1):
        if target == subprocess.STDOUT:
            os.dup2(1, number)
        elif isinstance(target, str):
            os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        elif target is not None:
            os.dup2(target.fileno(), number)
    # An exec closes the files of the process before it: a lock that it holds must not be held here too. Pipes stay: by
    # them multiprocessing sees that this process has ended.
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and stat.S_ISREG(os.fstat(int(name)).st_mode):
                os.close(int(name))
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))


def _forget_and_patch(arguments: list[str]) -> None:
    """What a process that forked this one has set up is not its own: Hydra's state; and its children are forked too.

    Workers of Dask and Ray, to which the function that starts a job is sent, start theirs from nothing.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from vsrprune.host import processes
    from vsrprune.jobs import speed
    from vsrprune.networks.own import spec

    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    if not any(item.startswith("launcher=") and item != "launcher=local" for item in arguments):
        processes.subprocess = SimpleNamespace(  # type: ignore[attr-defined]
            Popen=Child, STDOUT=subprocess.STDOUT, TimeoutExpired=subprocess.TimeoutExpired
        )
    spec.subprocess = described_by(FORK)  # type: ignore[attr-defined]
    speed.subprocess = timed_by(FORK)  # type: ignore[attr-defined]
