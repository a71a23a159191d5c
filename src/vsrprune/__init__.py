"""Structured pruning of video super-resolution networks: stages, sweeps and honest measurements."""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """`__version__`, read from the package's metadata when it is asked for: every command imports this file."""
    if name != "__version__":
        raise AttributeError(f"module 'vsrprune' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("vsrprune")
    except PackageNotFoundError:  # a checkout that is only on the path
        return "unknown"
