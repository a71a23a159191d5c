"""From names and values to a configuration: what Hydra composed, or knobs by dotted name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from vsrprune.config.door import DOOR, RULE, in_real_time
from vsrprune.config.job import Config
from vsrprune.config.model import NETWORKS, ModelConfig, arguments_of, model_config
from vsrprune.config.task import SUPER_RESOLUTION, TaskConfig
from vsrprune.errors import UserError
from vsrprune.knobs import KNOB, check_value, converted, hints, leaves, unknown

C = TypeVar("C", bound=Config)
T = TypeVar("T")
OPEN = ("model", "launcher.options")  # Hydra takes any name in them; a network's arguments are checked here


def schema(kind: type[Config]) -> dict[str, Any]:
    """What Hydra composes on: the default of every knob, nested, without the model's, which its file has."""
    values: dict[str, Any] = {**{leaf.name: leaf.default for leaf in DOOR}, **asdict(kind())}
    # Every network has other arguments, so one schema cannot hold them; `model_config` checks them instead.
    return values | {"model": {}}


def default_model() -> dict[str, Any]:
    """The default of the group `model`, as a file in conf/model states it: what differs from the network's defaults."""
    model = ModelConfig()
    published = type(model.arguments)()
    values = {item.name: getattr(model.arguments, item.name) for item in dataclasses.fields(model.arguments)}
    differing = {name: value for name, value in values.items() if value != getattr(published, name)}
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in differing.items()}
    return {"name": model.name, "network": model.network, **lists}


def known_names(kind: type[Config]) -> list[str]:
    """The dotted names of all knobs; of the model's, those of every network."""
    names = [*(leaf.name for leaf in DOOR), *(leaf.name for leaf in leaves(kind))]
    return names + list(dict.fromkeys(f"model.{name}" for network in NETWORKS for name in hints(arguments_of(network))))


def configured(kind: type[C], composed: Mapping[str, Any]) -> C:
    """The configuration of nested values, such as Hydra composes them; what is left out has its default.

    Raises UserError for a name that is no knob, with the nearest, for values of the network's arguments that are not
    allowed, and for a rule that rsc or residual contradict. `check` looks at all other values.
    """
    values = in_real_time(composed)
    rule, model, task = values.pop(RULE.name, None), values.pop("model", None), values.get("task")
    config = _built(kind, values, "", known_names(kind))
    if model is not None:
        task_name = task.get("name", SUPER_RESOLUTION) if isinstance(task, Mapping) else TaskConfig().name
        config.model = model_config(_group("model", model), scale_kept=task_name != SUPER_RESOLUTION)
    check_value(RULE, rule)
    # Compared with what became of rsc and residual, and not with what was typed: a method's file may set rsc, and the
    # command line may override either.
    if rule is not None and config.rule != rule:
        raise UserError(
            f"rule={rule} contradicts rsc={str(config.rsc).lower()} residual={config.residual}; give either rule, or"
            " rsc and residual"
        )
    return config


def with_knobs(config: C, changes: Mapping[str, Any]) -> C:
    """The same with some knobs changed, by dotted name: {"ratio": 0.3, "model.channels": 8}.

    Raises UserError for a name that is no knob, and for a network's argument that is not allowed.
    """
    tree: dict[str, Any] = {}
    for name, value in changes.items():
        *groups, last = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    return _changed(config, tree, "", known_names(type(config)))


def _changed(owner: T, tree: Mapping[str, Any], prefix: str, known: list[str]) -> T:
    kinds, changes = hints(type(owner)), {}
    if isinstance(owner, ModelConfig):
        return cast(T, _changed_model(owner, tree))
    for name, value in tree.items():
        if name not in kinds:
            raise unknown(f"{prefix}{name}", known)
        inner = getattr(owner, name)
        # A mapping changes some knobs of a group; a whole group, as a dataclass, replaces it.
        within = is_dataclass(inner) and isinstance(value, Mapping)
        changes[name] = _changed(inner, value, f"{prefix}{name}.", known) if within else value
    return cast(T, replace(cast(Any, owner), **changes))


def _changed_model(model: ModelConfig, tree: Mapping[str, Any]) -> ModelConfig:
    # A network may have an argument that is called `arguments` too.
    own = {name: value for name, value in tree.items() if name in ("name", "network") or is_dataclass(value)}
    rest = {name: value for name, value in tree.items() if name not in own}
    changed = replace(model, **own)
    for name in rest:
        if name not in hints(type(changed.arguments)):
            raise unknown(f"model.{name}", [f"model.{item}" for item in hints(type(changed.arguments))])
    return replace(changed, arguments=replace(changed.arguments, **rest))


def _built(kind: type[T], values: Mapping[str, Any], prefix: str, known: list[str]) -> T:
    kinds, given = hints(kind), {}
    # A field without a knob's declaration is a group of knobs.
    groups = {item.name for item in fields(cast(Any, kind)) if KNOB not in item.metadata}
    for name, value in values.items():
        if name not in kinds:
            raise unknown(f"{prefix}{name}", known)
        if name in groups:
            given[name] = _built(kinds[name], _group(f"{prefix}{name}", value), f"{prefix}{name}.", known)
        else:
            given[name] = converted(kinds[name], value)
    return kind(**given)


def _group(name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise UserError(f"{name} is a group of knobs, set one by one as {name}.NAME=VALUE; got {value!r}")
