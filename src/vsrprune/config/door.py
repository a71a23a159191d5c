"""Knobs of the command line that stand for others, which are what the rest of the house knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vsrprune.channels.layout import RULES
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.knobs import Knob, Leaf, check_value
from vsrprune.selection.budget import REALTIME

RULE = Leaf(
    "rule",
    str | None,
    None,
    Knob("Sets rsc and residual at once, so that a sweep has one axis for the three residual rules.", choices=RULES),
)
FPS = Leaf(
    "fps",
    float | None,
    None,
    Knob(
        "With target=realtime: frames per second that the network is to reach on this device, flow net included. It"
        " sets target_ms=1000/fps.",
        above=0,
        at_most=10_000,
    ),
)
SIZE = Leaf(
    "size",
    list[int] | None,
    None,
    Knob(
        "With target=realtime: height and width of the low-resolution frames, in pixels. It sets"
        " evaluate.latency_size.",
        at_least=8,
        at_most=8192,
        form="[height, width]",
        lengths=(2, 2),
    ),
)
DOOR = (RULE, FPS, SIZE)
# What target=realtime needs and the defaults are not: counts by time, and scores that can be added up over layers.
IMPLIED = {"round_to": "auto", "score": "taylor"}


def in_real_time(composed: Mapping[str, Any]) -> dict[str, Any]:
    """Composed values with fps and size as the knobs that they stand for, and with what target=realtime implies.

    Raises UserError where they are given without it, or where it is given without a time.
    """
    values = dict(composed)
    fps, size = values.pop(FPS.name, None), values.pop(SIZE.name, None)
    check_value(FPS, fps)
    check_value(SIZE, size)
    if values.get("target") != REALTIME:
        for name, value in ((FPS.name, fps), (SIZE.name, size)):
            if value is not None:
                raise UserError(f"{name}={value} is given, but target={values.get('target')} does not read it; add"
                                f" target={REALTIME}")  # fmt: skip
        return values
    if fps is not None and values.get("target_ms"):
        raise UserError(f"fps={fps:g} and target_ms={values['target_ms']:g} both say how fast; give one of them")
    if fps is not None:
        values["target_ms"] = 1000 / fps
    if size is not None:
        values["evaluate"] = {**values.get("evaluate", {}), "latency_size": list(size)}
    for name, needed in IMPLIED.items():
        default = getattr(Config, name)
        # A method that is called by its score keeps it, and is refused for it by name.
        if values.get(name, default) == default and values.get("method", {}).get("name") != default:
            values[name] = needed
    return values


def check_typed(values: Mapping[str, Sequence[str]]) -> None:
    """Raise UserError where a default is typed that target=realtime would replace, under the name that was typed.

    values: those of every knob of the command line, as texts, several in a sweep.
    """
    if REALTIME not in values.get("target", ()):
        return
    for name, needed in IMPLIED.items():
        default = getattr(Config, name)
        if str(default) in values.get(name, ()):
            raise UserError(f"{name}={default} does not go with target={REALTIME}, which needs {name}={needed}, say;"
                            f" take {name} out of the command")  # fmt: skip
