"""What a probe of this machine's speed is asked for. Without torch: planning asks, a process of its own measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vsrprune.channels.plan import PrunePlan
from vsrprune.config.machine import TrainerConfig
from vsrprune.results.protocols import Comparison


@dataclass(frozen=True)
class Probe:
    """The network and the sizes to time.

    arguments: the network's. narrow: a plan that keeps half of every group, timed beside the dense network. batch,
    patch, frames: of a training step. steps: how many of them. shown: height and width of a low-resolution frame that
    is restored and compared, shown_frames: of a clip of so many. threads: of PyTorch on the CPU; 0: its own choice.
    asked_at: the time (seconds since the epoch) at which the process was started.
    """

    arguments: Any
    narrow: PrunePlan
    trainer: TrainerConfig
    comparison: Comparison
    device: str
    threads: int
    batch: int
    patch: int
    frames: int
    steps: int
    shown: tuple[int, int]
    shown_frames: int
    asked_at: float = 0.0
