"""Hydra launcher: every job of a sweep in a process of its own."""

from hydra_plugins.vsrprune_launcher.local import LocalLauncher

__all__ = ["LocalLauncher"]
