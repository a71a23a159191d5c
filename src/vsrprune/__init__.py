"""Structured pruning of video super-resolution networks: stages, sweeps and honest measurements."""

from __future__ import annotations

import os

# Before torch loads, which reads it once. Threads of a step that spin while they wait for one another keep a core from
# whoever else computes there, and that is often the thread that they wait for. What the user set stands.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def __getattr__(name: str) -> str:
    """`__version__`, read from the package's metadata when it is asked for: every command imports this file."""
    if name != "__version__":
        raise AttributeError(f"module 'vsrprune' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("vsrprune")
    except PackageNotFoundError:  # a checkout that is only on the path
        return "unknown"
