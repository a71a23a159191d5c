"""NVIDIA cards where there are none: a program of nvidia-smi's name, and a PyTorch that says it is built for CUDA."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from vsrprune.host.devices import TorchBuild

WITH_CUDA = TorchBuild("2.11.0+cu130", "13.0")
WITHOUT_CUDA = TorchBuild("2.11.0+cpu", None)


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a shell script in the place of nvidia-smi, and let no CUDA_VISIBLE_DEVICES hide what it lists."""
    place = Path(tempfile.mkdtemp(dir=folder))  # a new one, since what a program once listed is kept by its path
    program = place / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def listing(count: int, name: str = "NVIDIA L4") -> str:
    """What `nvidia-smi -L` prints."""
    return "\n".join(f"GPU {number}: {name} (UUID: GPU-{number})" for number in range(count))


def fake_cards(folder: Path, monkeypatch: pytest.MonkeyPatch, cards: int | str, build: TorchBuild = WITH_CUDA) -> None:
    """Have this machine list so many cards, GPU-0 and so on, or print a listing."""
    text = listing(cards) if isinstance(cards, int) else cards
    fake_smi(folder, monkeypatch, f"cat <<'END'\n{text}\nEND")
    monkeypatch.setattr("vsrprune.jobs.devices.torch_build", lambda: build)
