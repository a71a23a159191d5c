"""A command in this process: for what is refused before any work, a process of its own costs more than the refusal."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from vsrprune.jobs import runner

ROOT = Path(__file__).parents[1]


def run_here(command: str, *arguments: object) -> CompletedProcess[str]:
    """`python COMMAND arguments` with what it prints; a job that would start is an AssertionError instead."""
    out, err = io.StringIO(), io.StringIO()
    # Hydra's state would be that of the command before.
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    with (
        patch.object(sys, "argv", [str(ROOT / command), *map(str, arguments)]),
        patch.object(sys, "path", [str((ROOT / command).parent), *sys.path]),
        patch.object(runner, "run_job", side_effect=AssertionError("a job was started")),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _ended(command)
    return CompletedProcess([command, *map(str, arguments)], code, out.getvalue(), err.getvalue())


def _ended(command: str) -> int:
    try:
        runpy.run_path(str(ROOT / command), run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def refusal(folder: Path, command: str, *arguments: object) -> str:
    """The one line with which a command refuses its arguments; nothing may have come into `folder`."""
    before = sorted(folder.rglob("*"))
    done = run_here(command, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert done.stderr.startswith("error: ")
    assert sorted(folder.rglob("*")) == before
    return done.stderr.removeprefix("error: ").strip()
