"""Hydra launcher: every job of a sweep in a process of its own, here or on a cluster."""

from hydra_plugins.vsrprune_launcher.launcher import VsrpruneLauncher

__all__ = ["VsrpruneLauncher"]
