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
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DEVICES = Path("/dev")
DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU
VISIBLE = "CUDA_VISIBLE_DEVICES"
CLOCKS = "clocks.sm,clocks.max.sm,clocks.mem"
PATIENCE_SECONDS = 30  # a broken GPU makes nvidia-smi hang
NONE_THERE = "No devices were found"
CPU = "cpu"
_GPU = re.compile(r"GPU (\d+): (.+) \(UUID: (\S+)\)")
_UUID = re.compile(r"^GPU UUID:\s*(GPU-[0-9a-f-]+)\s*$", re.MULTILINE)
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


@dataclass(frozen=True)
class Visible:
    """What CUDA_VISIBLE_DEVICES leaves to this process, in its order; without it, all of this machine.

    cards: those. hidden: where there are none, those that it hides. twice: the name by which it gives a card for the
    second time; CUDA shows no card then. missing: why there are no cards, empty if there are.
    """

    cards: tuple[Card, ...]
    hidden: tuple[Card, ...] = ()
    twice: str = ""
    missing: str = ""


def visible_cards() -> list[Card]:
    """The devices that this process may use; see `look_around`."""
    return list(look_around().cards)


def look_around() -> Visible:
    """The devices that this process may use.

    Numbers in CUDA_VISIBLE_DEVICES count GPUs as nvidia-smi does, by their places on the bus. CUDA by itself counts
    the fastest first, so a job hands it the UUIDs of its cards (`vsrprune.jobs.devices.show_only`).
    """
    machine = _machine(shutil.which("nvidia-smi"), DEVICES, DRIVER)
    everything = tuple(card for gpu in machine.gpus for card in gpu.devices)
    asked = os.environ.get(VISIBLE)
    if asked is None:
        return Visible(everything, missing="" if everything else machine.fault or "nvidia-smi lists none")
    fault = f"; {machine.fault}" if machine.fault else ""
    found: dict[Card, None] = {}
    for name in map(str.strip, asked.split(",")):
        card = _named(name, machine)
        if card is None:
            break  # as CUDA does: a name of nothing hides itself and all after it
        if card in found:
            return Visible((), everything, name, f"{VISIBLE}={asked!r} names {name} twice")
        found[card] = None
    if found:
        return Visible(tuple(found))
    return Visible((), everything, missing=f"{VISIBLE}={asked!r} shows none{fault}")


@dataclass(frozen=True)
class _Gpu:
    """A GPU and the parts that it is divided into."""

    whole: Card
    parts: tuple[Card, ...] = ()

    @property
    def devices(self) -> tuple[Card, ...]:
        """The devices that it stands for."""
        return self.parts or (self.whole,)


@dataclass(frozen=True)
class _Machine:
    """The GPUs of this machine. fault: why nvidia-smi does not list them. uuids: those that the driver then tells."""

    gpus: tuple[_Gpu, ...]
    fault: str = ""
    uuids: tuple[str, ...] = ()


def _named(name: str, machine: _Machine) -> Card | None:
    """The device of a name in CUDA_VISIBLE_DEVICES: a number, a UUID or the beginning of one that is of no other."""
    gpus = machine.gpus
    if name.isdecimal():
        return gpus[int(name)].devices[0] if int(name) < len(gpus) else None  # of a divided GPU, the first part
    if not name.startswith(("GPU-", "MIG-")):
        return None
    if name.startswith("GPU-"):
        found = [gpu.devices[0] for gpu in gpus if gpu.whole.uuid.startswith(name)]
        told = [uuid for uuid in machine.uuids if uuid.startswith(name)]
        taken_at_its_word = bool(machine.fault and gpus) and (len(told) == 1 or not machine.uuids)
    else:
        found = [part for gpu in gpus for part in gpu.parts if part.uuid.startswith(name)]
        # Older drivers name parts by GPU and numbers, and a container may show a part and no list of it.
        taken_at_its_word = bool(gpus) and (name.startswith("MIG-GPU-") or not any(gpu.parts for gpu in gpus))
    if found:
        return found[0] if len(found) == 1 else None
    return Card(name, UNNAMED, name.startswith("MIG-")) if taken_at_its_word else None


UNNAMED = "an NVIDIA GPU"


@cache
def _machine(nvidia_smi: str | None, devices: Path, driver: Path) -> _Machine:
    """The GPUs of this machine, as nvidia-smi lists them; where it does not, as many as there are files of devices."""
    said = _ask(nvidia_smi, "-L")
    if said.fault:  # PyTorch will say what is wrong with the driver
        count = sum(path.name[6:].isdecimal() for path in devices.glob("nvidia[0-9]*"))
        return _Machine(tuple(_Gpu(Card(str(number), UNNAMED)) for number in range(count)), said.fault, _told(driver))
    gpus: list[_Gpu] = []
    for line in said.text.splitlines():
        if gpu := _GPU.match(line):
            gpus.append(_Gpu(Card(gpu[3], gpu[2])))
        elif (part := _PART.match(line)) and gpus:
            whole, parts = gpus[-1].whole, gpus[-1].parts
            gpus[-1] = _Gpu(whole, (*parts, Card(part[2], f"{whole.name} MIG {part[1]}", is_part=True)))
    return _Machine(tuple(gpus))


def _told(driver: Path) -> tuple[str, ...]:
    """The UUIDs of all GPUs, as the driver has them in its files; empty where it does not tell one of them."""
    found = []
    for file in sorted(driver.glob("*/information")):
        try:
            uuid = _UUID.search(file.read_text(errors="replace"))
        except OSError:
            return ()
        if uuid is None:
            return ()
        found.append(uuid[1])
    return tuple(found)


def driver_version() -> str:
    """The version of NVIDIA's driver; empty where nvidia-smi does not say."""
    return _said("--query-gpu=driver_version", "--format=csv,noheader").strip().partition("\n")[0]


def busy_percent(card: Card) -> int | None:
    """The share of the last second in which a GPU computed, whoever used it; None where nvidia-smi does not say."""
    said = _said("-i", card.uuid, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits").strip()
    return int(said) if said.isdecimal() else None  # of the parts of a divided GPU it is [N/A]


def clocks(uuid: str) -> str:
    """Such as `SM 1980 of 1980 MHz, memory 2619 MHz`; empty where nvidia-smi does not say.

    Without the clocks at which a card just ran, a time of it says little.
    """
    said = _said("-i", uuid, f"--query-gpu={CLOCKS}", "--format=csv,noheader,nounits")
    values = [value.strip() for value in said.strip().split(",")]
    # In place of what it does not know, as of a part of a card (MIG), it says [N/A].
    if len(values) != len(CLOCKS.split(",")) or not all(value.isdigit() for value in values):
        return ""
    now, most, memory = values
    return f"SM {now} of {most} MHz, memory {memory} MHz"


@dataclass(frozen=True)
class _Answer:
    """What nvidia-smi prints, or why it prints nothing that counts."""

    text: str = ""
    fault: str = ""


def _said(*arguments: str) -> str:
    """What nvidia-smi prints; empty if there is none or it fails."""
    return _ask(shutil.which("nvidia-smi"), *arguments).text


def _ask(nvidia_smi: str | None, *arguments: str) -> _Answer:
    if nvidia_smi is None:
        return _Answer(fault="nvidia-smi is not installed")
    try:
        done = subprocess.run(
            [nvidia_smi, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return _Answer(fault=f"nvidia-smi does not answer within {PATIENCE_SECONDS} seconds")
    except OSError as error:
        return _Answer(fault=f"nvidia-smi cannot be run: {error.strerror}")
    printed = (done.stdout + done.stderr).strip()
    if NONE_THERE in printed:
        return _Answer()
    if done.returncode == 0:
        return _Answer(done.stdout)
    first = printed.partition("\n")[0].rstrip(" .") or f"exit code {done.returncode}"
    return _Answer(fault=f"nvidia-smi fails: {first}")


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
