"""Threads of a step wait for one another without keeping a core busy."""

from __future__ import annotations

import os
import subprocess
import sys


def openmp_environment(code: str, **variables: str) -> str:
    """What the OpenMP library of a new process says of its settings when it is loaded."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command,
        env={**environment, "OMP_DISPLAY_ENV": "verbose", **variables},
        capture_output=True,
        text=True,
        check=True,
    ).stderr


def test_threads_of_pytorch_do_not_spin_while_they_wait() -> None:
    assert "GOMP_SPINCOUNT = '0'" in openmp_environment("import vsrprune, torch")


def test_a_policy_of_the_user_stands() -> None:
    assert "GOMP_SPINCOUNT = '0'" not in openmp_environment("import vsrprune, torch", OMP_WAIT_POLICY="active")
