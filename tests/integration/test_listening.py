"""What engines start on this machine listens on the loopback interface alone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from vsrprune.errors import UserError

# Starts an engine, runs one job, and prints which sockets its processes listen on meanwhile.
ENGINE = """
import contextlib, json, subprocess, sys, time
from pathlib import Path
from hydra_plugins.vsrprune_launcher.engines import ENGINES, Call
from vsrprune.config.machine import LauncherConfig

def parents():
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(pid): int(parent) for pid, parent in map(str.split, table.splitlines())}

def is_ours(pid, parent_of):
    while pid in parent_of and pid != ours:
        pid = parent_of[pid]
    return pid == ours

if __name__ == "__main__":
    import os, re
    ours = os.getpid()
    settings = LauncherConfig(**json.loads(sys.argv[1]))
    with ENGINES[settings.name](settings, 0, 1) as submit:
        folder = Path(sys.argv[2])
        code = submit(Call([sys.executable, "-c", ""], str(folder), folder, None)).result()
        table, found = parents(), []
        for line in subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines():
            if any(is_ours(int(pid), table) for pid in re.findall(r"pid=(\\d+)", line)):
                found.append(line.split()[3])
    print(json.dumps([code, found]))
"""


def run_engine(folder: Path, **settings: object) -> tuple[int, list[str]]:
    (folder / "engine.py").write_text(ENGINE.replace("\\\\", "\\"))
    command = [sys.executable, str(folder / "engine.py"), json.dumps(settings), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    if done.returncode:
        raise UserError(done.stderr)
    code, addresses = json.loads(done.stdout.splitlines()[-1])
    return code, addresses


@pytest.mark.slow
@pytest.mark.parametrize(("name", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_what_is_started_here_cannot_be_reached_from_elsewhere(tmp_path: Path, name: str, package: str) -> None:
    if importlib.util.find_spec(package) is None:  # not importorskip: Ray reads its settings when it is imported
        pytest.skip(f"{package} is not installed")
    code, addresses = run_engine(tmp_path, name=name, jobs=1)
    assert code == 0
    assert addresses
    assert {address.rpartition(":")[0] for address in addresses} <= {"127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"}
