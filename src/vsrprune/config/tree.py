"""The composed configuration as a tree, in which what differs from the defaults is marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from rich.text import Text
from rich.tree import Tree

from vsrprune.config.job import Config
from vsrprune.config.model import ModelConfig

MARK = "*"


def config_tree(configs: Sequence[Config]) -> Tree:
    """All knobs of the jobs of a sweep, or of one job; where jobs differ, their values in order.

    A mark stands before those that are not the default, with the default behind. A network's arguments are compared
    with those of the default network.
    """
    usual = _values(type(configs[0])())
    tree = Tree(Text(f"configuration ({MARK} differs from the default)"))
    _add(tree, [_values(config) for config in configs], usual)
    return tree


def _values(config: Config) -> dict[str, Any]:
    return {
        item.name: (
            {"name": value.name, "network": value.network, **asdict(value.arguments)}
            if isinstance(value := getattr(config, item.name), ModelConfig)
            else asdict(config)[item.name]
        )
        for item in fields(config)
    }


def _add(tree: Tree, jobs: Sequence[Mapping[str, Any]], usual: Mapping[str, Any]) -> None:
    for name in dict.fromkeys(name for job in jobs for name in job):
        values = [job[name] for job in jobs if name in job]
        if all(isinstance(value, Mapping) for value in values) and any(values):
            group = tree.add(Text(name))
            _add(group, values, usual.get(name) or {})
            continue
        distinct = list(dict.fromkeys(map(_shown, values)))
        text = f"{name}: {' | '.join(distinct)}"
        default = _shown(usual[name]) if name in usual else ""
        if distinct == [default]:
            tree.add(Text(f"  {text}"))
        else:
            tree.add(Text(f"{MARK} {text}{f'  (default {default})' if default else ''}", style="bold"))


def _shown(value: Any) -> str:
    """As it is typed on the command line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_shown, value))}]"
    return str(value) if value != "" else "''"
