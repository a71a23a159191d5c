"""Whether values that a file gave are of the types that a dataclass declares: a file may hold anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def check_fit(value: object, hint: Any, name: str) -> None:
    """Raise ValueError, with the place in dots below `name`, where a value is not of the type that `hint` declares.

    A whole number fits where a float is declared, as JSON has it; true and false fit no number.
    """
    if is_dataclass(hint) and isinstance(hint, type):
        _check(isinstance(value, hint), value, hint.__name__, name)
        hints = _hints(hint)
        for field in fields(hint):
            check_fit(getattr(value, field.name), hints[field.name], f"{name}.{field.name}")
        return
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        # Of the kinds that a union allows besides None there is one here.
        if not (value is None and type(None) in inner):
            check_fit(value, next(kind for kind in inner if kind is not type(None)), name)
    elif origin in (dict, Mapping):
        _check(isinstance(value, Mapping), value, "a table", name)
        assert isinstance(value, Mapping)
        for key, child in value.items():
            check_fit(child, inner[1], f"{name}.{key}")
    elif origin in (list, tuple):
        _check(isinstance(value, origin), value, "a list", name)
        assert isinstance(value, list | tuple)
        fixed = origin is tuple and inner[-1] is not ...
        _check(not fixed or len(value) == len(inner), value, f"{len(inner)} values", name)
        if set(inner) <= {float, ...} and all(type(child) is float for child in value):
            return  # most of what a result holds
        for place, child in enumerate(value):
            check_fit(child, inner[place if fixed else 0], f"{name}.{place}")
    elif hint is not Any:
        kinds = (int, float) if hint is float else (hint,)
        fits = isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))
        _check(fits, value, hint.__name__, name)


_hints = cache(get_type_hints)


def _check(fits: bool, value: object, wanted: str, name: str) -> None:
    if not fits:
        raise ValueError(f"{name} must be {wanted}; got {str(value)[:40]!r}")
