"""The CUDA devices that this process may use, found without torch: the parent of a sweep counts them before any work.

Counted are NVIDIA's devices, as `nvidia-smi` lists them; a GPU that is divided (MIG) stands for its parts.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DEVICES = Path("/dev")
VISIBLE = "CUDA_VISIBLE_DEVICES"
PATIENCE_SECONDS = 30  # a broken GPU makes nvidia-smi hang
NONE_THERE = "No devices were found"
CPU = "cpu"
_GPU = re.compile(r"GPU (\d+): (.+) \(UUID: (\S+)\)")
_PART = re.compile(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (\S+)\)")


@dataclass(frozen=True)
class Card:
    """A CUDA device: a GPU, or a part of a divided one.

    uuid: what CUDA_VISIBLE_DEVICES takes, the same in every process of the machine. name: the GPU's model, with the
    profile of a part: "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
    """

    uuid: str
    name: str
    is_part: bool = False


@dataclass(frozen=True)
class Place:
    """Where a job computes: on the cards, or without any on the CPU. `note` is what the run's header says of it."""

    cards: tuple[Card, ...] = ()
    note: str = ""

    @property
    def device(self) -> str:
        """The device that times are of: the first card's name, or `cpu`."""
        return self.cards[0].name if self.cards else CPU

    @property
    def uuids(self) -> tuple[str, ...]:
        """Those of the cards."""
        return tuple(card.uuid for card in self.cards)


def visible_cards() -> list[Card]:
    """The devices that CUDA_VISIBLE_DEVICES leaves to this process, in its order; without it, all of this machine.

    Numbers count GPUs as nvidia-smi does, by their places on the bus.
    """
    gpus = _gpus(shutil.which("nvidia-smi"), DEVICES)
    asked = os.environ.get(VISIBLE)
    if asked is None:
        return [card for parts in gpus for card in parts]
    found: list[Card] = []
    for name in map(str.strip, asked.split(",")):
        card = _named(name, gpus)
        if card is None:
            break  # as CUDA does: a name of nothing hides itself and all after it
        found.append(card)
    return found


def _named(name: str, gpus: Sequence[Sequence[Card]]) -> Card | None:
    """The device of a name in CUDA_VISIBLE_DEVICES: a number, a UUID or the beginning of one."""
    if name.isdecimal():
        return gpus[int(name)][0] if int(name) < len(gpus) else None  # of a divided GPU, CUDA takes the first part
    if name.startswith(("GPU-", "MIG-")):
        for parts in gpus:
            for card in parts:
                if card.uuid.startswith(name):
                    return card
        # A container may show a device and no list of it, and older drivers name parts by GPU and numbers.
        if not any(parts[0].uuid.startswith("GPU-") for parts in gpus) or name.startswith("MIG-"):
            return Card(name, UNNAMED, name.startswith("MIG-"))
    return None


UNNAMED = "an NVIDIA GPU"


@cache
def _gpus(nvidia_smi: str | None, devices: Path) -> list[list[Card]]:
    """The GPUs of this machine, each as the devices that it stands for: itself, or its parts."""
    listing = _said(nvidia_smi, "-L")
    if listing is None:  # no nvidia-smi, or one that fails: PyTorch will say what is wrong with the driver
        numbers = sorted(int(path.name[6:]) for path in devices.glob("nvidia[0-9]*") if path.name[6:].isdecimal())
        return [[Card(str(number), UNNAMED)] for number in numbers]
    gpus: list[tuple[Card, list[Card]]] = []
    for line in listing.splitlines():
        if gpu := _GPU.match(line):
            gpus.append((Card(gpu[3], gpu[2]), []))
        elif (part := _PART.match(line)) and gpus:
            whole, parts = gpus[-1]
            parts.append(Card(part[2], f"{whole.name} MIG {part[1]}", is_part=True))
    return [parts or [whole] for whole, parts in gpus]


def driver_version() -> str:
    """The version of NVIDIA's driver; empty where nvidia-smi does not say."""
    said = _said(shutil.which("nvidia-smi"), "--query-gpu=driver_version", "--format=csv,noheader") or ""
    return said.strip().partition("\n")[0]


def busy_percent(card: Card) -> int | None:
    """The share of the last second in which a GPU computed, whoever used it; None where nvidia-smi does not say."""
    asked = ("-i", card.uuid, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
    said = (_said(shutil.which("nvidia-smi"), *asked) or "").strip()
    return int(said) if said.isdecimal() else None  # of the parts of a divided GPU it is [N/A]


def _said(nvidia_smi: str | None, *arguments: str) -> str | None:
    """What nvidia-smi prints; None if there is none or it fails."""
    if nvidia_smi is None:
        return None
    try:
        done = subprocess.run(
            [nvidia_smi, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if NONE_THERE in done.stdout + done.stderr:
        return ""
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True)
class TorchBuild:
    """PyTorch as it is installed. cuda: the version of CUDA that it was built with; None for a build without."""

    version: str
    cuda: str | None


# Of this one PyTorch itself will say what it cannot do.
UNKNOWN_BUILD = TorchBuild("(unknown)", "(unknown)")


@cache
def torch_build() -> TorchBuild:
    """The installed PyTorch, read from its own file of versions: importing it would take seconds.

    UNKNOWN_BUILD where that file is missing or is not as PyTorch writes it.
    """
    try:
        spec = importlib.util.find_spec("torch")
        values = runpy.run_path(str(Path((spec and spec.origin) or "").with_name("version.py")))
        return TorchBuild(values["__version__"], values.get("cuda"))
    except (OSError, ValueError, KeyError, ImportError, SyntaxError):
        return UNKNOWN_BUILD
