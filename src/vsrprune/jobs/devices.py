"""Which devices a job gets: what `trainer.accelerator=auto` stands for here, and the cards that it computes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from vsrprune.config.job import Config
from vsrprune.config.machine import BATCH_SYSTEMS, LauncherConfig
from vsrprune.errors import UserError
from vsrprune.host.devices import VISIBLE, Card, Place, Visible, look_around, torch_build, visible_cards

AUTO = "auto"
READ_ON = "docs/gpu.md"


def runs_elsewhere(launcher: LauncherConfig) -> bool:
    """Whether jobs run on machines whose devices the parent of the sweep cannot see."""
    return bool(launcher.address) or launcher.name in BATCH_SYSTEMS


def on_this_machine(config: Config) -> tuple[Config, Place]:
    """The same with the accelerator that `auto` stands for, and where the job computes.

    Raises UserError if it asks for more GPUs than this machine has, unless its jobs run on other machines.
    """
    if config.trainer.accelerator == "cpu":
        return config, Place()
    seen = look_around()
    cards, elsewhere = seen.cards, runs_elsewhere(config.launcher)
    if seen.twice and not elsewhere:
        raise UserError(f"{seen.missing}, and CUDA then shows no GPU at all; name every GPU once")
    usable = cards if cards and torch_build().cuda else ()  # without a card, nobody asks how PyTorch is built
    kind = "gpu" if usable or config.trainer.accelerator == "gpu" else "cpu"
    # `auto` takes the name of what it stands for: a result on a CPU is the same whether it was asked for or found.
    name = kind if config.trainer.name == AUTO else config.trainer.name
    settled = replace(config, trainer=replace(config.trainer, accelerator=kind, name=name))
    if kind == "cpu":
        return settled, Place(note=_idle(seen))
    if not elsewhere:
        _check_enough(config.trainer.devices, seen)
    chosen = usable[: config.trainer.devices]
    return settled, Place(chosen, f"trains on {_counted(chosen)}; trainer=cpu keeps it off" if chosen else "")


def _check_enough(devices: int, seen: Visible) -> None:
    cards = seen.cards
    if not cards:
        raise UserError(
            f"trainer.accelerator=gpu needs an NVIDIA GPU, and there is none ({seen.missing}); use trainer=cpu"
        )
    if not torch_build().cuda:
        raise UserError(
            f"trainer.accelerator=gpu: PyTorch {torch_build().version} is built without CUDA; install a build with it"
            f" ({READ_ON}), or use trainer=cpu"
        )
    if devices > len(cards):
        raise UserError(
            f"trainer.devices={devices} is more than there are GPUs ({len(cards)}: {_counted(cards)}); use at most"
            f" {len(cards)}"
        )
    if devices > 1 and any(card.is_part for card in cards[:devices]):
        raise UserError(f"trainer.devices={devices}: a job can use one part of a divided GPU (MIG); use 1")


def _idle(seen: Visible) -> str:
    """What a job on the CPU says of cards that were there, or that CUDA_VISIBLE_DEVICES names."""
    if seen.cards:
        return (
            f"{_counted(seen.cards)} stays idle: PyTorch {torch_build().version} is built without CUDA; {READ_ON} says"
            " which build to install, trainer=cpu hides this line"
        )
    if seen.hidden:
        return f"{_counted(seen.hidden)} stays idle: {seen.missing}; trainer=cpu hides this line"
    if os.environ.get(VISIBLE, "").startswith(("GPU-", "MIG-")):
        return f"trains on the CPU: {seen.missing}; trainer=cpu hides this line"
    return ""


def _counted(cards: Sequence[Card]) -> str:
    """Names of cards: "2 x NVIDIA L4, NVIDIA T4"."""
    names = [card.name for card in cards]
    return ", ".join(
        name if names.count(name) == 1 else f"{names.count(name)} x {name}" for name in dict.fromkeys(names)
    )


def show_only(place: Place) -> None:
    """Leave to this process the cards of its job alone; to be called before torch asks for any."""
    # By UUID, also where all cards are its own: CUDA counts by speed, so that header and times would name another one.
    if place.cards:
        os.environ[VISIBLE] = ",".join(place.uuids)


def show_one_of_many(number: int) -> None:
    """Leave to this process, one of several that share the machine, the card that is its turn; as `show_only`."""
    cards = visible_cards()
    if cards:
        show_only(Place((cards[number % len(cards)],)))
