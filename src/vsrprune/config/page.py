"""docs/knobs.md, made from the fields by `make docs-knobs`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from vsrprune.config.door import DOOR
from vsrprune.config.job import Config
from vsrprune.config.model import NETWORKS, ModelConfig, arguments_of
from vsrprune.knobs import KNOB, Leaf, allowed, hints, leaves


def knob_sections(kind: type[Config]) -> Iterator[tuple[str, str, list[Leaf]]]:
    """Title, first sentence and knobs of every section: the flat knobs, every group, every network's arguments."""
    yield "The paper's knobs", "", [*DOOR, *(leaf for leaf in leaves(kind) if "." not in leaf.name)]
    for item in fields(kind):
        if KNOB in item.metadata:
            continue
        group: Any = hints(kind)[item.name]
        yield item.name, first_sentence(group), list(leaves(group, f"{item.name}."))
        if group is ModelConfig:
            for network in NETWORKS:
                arguments = arguments_of(network)
                yield f"model of network={network}", first_sentence(arguments), list(leaves(arguments, "model."))


def first_sentence(kind: type) -> str:
    """The first line of a class's docstring."""
    return (kind.__doc__ or "").strip().splitlines()[0]


def shown(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def page(kind: type[Config]) -> str:
    """The page in Markdown: a table of every section."""
    lines = [
        "# Every knob",
        "",
        "This page is made from the code by `make docs-knobs`. On the command line a knob is `NAME=VALUE`; the defaults"
        " are those of `python src/run.py` and of `Config()`.",
        "`python src/run.py --help GROUP` shows the same of one group.",
    ]
    for title, text, knobs in knob_sections(kind):
        lines += ["", f"## {title}", "", *([text, ""] if text else [])]
        lines += ["| knob | default | allowed | meaning |", "|---|---|---|---|"]
        for leaf in knobs:
            default = shown(leaf.default)
            cells = (f"`{leaf.name}`", f"`{default}`" if default else "", allowed(leaf), leaf.knob.help)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
