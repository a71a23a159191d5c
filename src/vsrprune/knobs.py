"""A knob is one field: its type, default, bounds, choices and help stand together.

The check of a value, `--help`, docs/knobs.md and what Hydra composes on are all read from there. Why this is not
pydantic: docs/decisions/config.md.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any, TypedDict, TypeVar, Unpack

from vsrprune.errors import UserError

T = TypeVar("T")
KNOB, FLAT = "knob", "flat"  # keys in a field's metadata


@dataclass(frozen=True)
class Knob:
    """What a field says of its values besides their type and default.

    help: one or two sentences. at_least, at_most: inclusive bounds of a number, or of each number in a list. above,
    below: exclusive ones. odd: only odd numbers. choices: the text values that are allowed. words: what a message adds
    to the bounds, such as the unit. form: what a list must be, such as `[height, width]`. lengths: the shortest and the
    longest list. spelled: says in a message all that is allowed, where bounds and choices go together.
    """

    help: str
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    odd: bool = False
    choices: tuple[str, ...] = ()
    words: str = ""
    form: str = ""
    lengths: tuple[int, int] = (0, 10_000)
    spelled: str = ""


class Limits(TypedDict, total=False):
    """The optional fields of a `Knob`, as keywords."""

    at_least: float
    at_most: float
    above: float
    below: float
    odd: bool
    choices: tuple[str, ...]
    words: str
    form: str
    lengths: tuple[int, int]
    spelled: str


def knob(default: T, help: str, *, compare: bool = True, **limits: Unpack[Limits]) -> T:
    """A dataclass field for a knob. Lists and dicts are copied for every instance.

    compare: whether two instances differ if they differ in it.
    """
    metadata = {KNOB: Knob(help, **limits)}
    if isinstance(default, (list, dict)):
        return typing.cast(T, dataclasses.field(default_factory=default.copy, compare=compare, metadata=metadata))
    return dataclasses.field(default=default, compare=compare, metadata=metadata)


def hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, by name."""
    return _hints(typing.cast(Any, kind))  # mypy holds that a mutable dataclass is not hashable, nor its class


# Resolving annotations is slow, and every check of a configuration asks for them.
@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@dataclass(frozen=True)
class Leaf:
    """A knob in its place: its dotted name, its type, its default, and what its field says."""

    name: str
    hint: Any
    default: Any
    knob: Knob


def leaves(kind: type, prefix: str = "") -> Iterator[Leaf]:
    """All knobs of a dataclass and of the groups in it, in order; fields without a knob are left out."""
    for item in dataclasses.fields(kind):
        name, hint = f"{prefix}{item.name}", hints(kind)[item.name]
        if KNOB in item.metadata:
            made = item.default_factory
            default = item.default if made is dataclasses.MISSING else made()
            yield Leaf(name, hint, default, item.metadata[KNOB])
        elif is_dataclass(hint):
            yield from leaves(typing.cast(type, hint), f"{name}.")


def check_knobs(owner: Any, prefix: str = "") -> None:
    """Raise UserError for the first knob of a dataclass, or of a group in it, whose value is not allowed."""
    kinds = hints(type(owner))
    for item in dataclasses.fields(owner):
        value = getattr(owner, item.name)
        if KNOB in item.metadata:
            check_value(Leaf(f"{prefix}{item.name}", kinds[item.name], None, item.metadata[KNOB]), value)
        elif is_dataclass(value):
            # A network's arguments stand beside the model's name: model.channels, and not model.arguments.channels.
            check_knobs(value, prefix if FLAT in item.metadata else f"{prefix}{item.name}.")


def check_value(leaf: Leaf, value: Any) -> None:
    """Raise UserError, naming knob, value and what is allowed, unless a value is of the type and within the bounds."""
    if not _fits(value, leaf.hint):
        raise UserError(f"{leaf.name} must be {_allowed_instead(leaf)}; got {_shown(value)}")
    if not _within(value, leaf.knob):
        raise UserError(f"{leaf.name} must be {_expected(leaf, value)}; got {_shown(value)}")


def converted(hint: Any, value: Any) -> Any:
    """A value from YAML or the command line as its field holds it.

    A whole number becomes a float where one is asked for, a list a tuple, and a number text. Everything else stays as
    it is, for `check_value` to refuse.
    """
    kinds = _alternatives(hint)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Beyond that float() of a whole number overflows; the check refuses the value in one line instead.
    if float in kinds and number and abs(value) < 1e308:
        return float(value)
    # Hydra reads a name such as 007 as a number.
    if str in kinds and number and not {int, float} & set(kinds):
        return str(value)
    for kind in kinds:
        if typing.get_origin(kind) in (list, tuple) and isinstance(value, (list, tuple)):
            return typing.get_origin(kind)(converted(typing.get_args(kind)[0], item) for item in value)
    return value


def allowed(leaf: Leaf) -> str:
    """What a knob may be, for people: its choices, or its type and bounds."""
    limits, kinds = leaf.knob, _alternatives(leaf.hint)
    optional = ", or null" if type(None) in kinds else ""
    if limits.spelled:
        return limits.spelled
    if limits.choices:
        return ", ".join(filter(None, limits.choices)) + (", or nothing" if "" in limits.choices else optional)
    lists = [kind for kind in kinds if typing.get_origin(kind) in (list, tuple)]
    if lists:
        element = typing.get_args(lists[0])[0]
        form = limits.form or f"list of {_PLURAL[element]}"
        return form + (f", each {bounds}" if (bounds := _bounds(limits)) else "") + optional
    kind = next(kind for kind in kinds if kind is not type(None))
    odd = "odd number" if limits.odd else _WORDS.get(kind, "mapping")
    return " ".join(filter(None, (odd, _bounds(limits)))) + optional


def unknown(name: str, known: Iterable[str]) -> UserError:
    """The refusal of a knob that does not exist, with the nearest one."""
    names = list(known)
    # The last part of a dotted name alone, such as `channels`, most likely means the whole name.
    close = [item for item in names if "." in item and item.rsplit(".", 1)[1] == name][:3]
    close = close or difflib.get_close_matches(name, names, 1, 0.6)
    advice = f"did you mean {' or '.join(close)}?" if close else "--help lists all there are."
    return UserError(f"{name} is no knob; {advice}")


_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Any: "mapping or file"}
_PLURAL = {int: "whole numbers", float: "numbers", str: "names"}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    return any(_is_a(value, kind) for kind in _alternatives(hint))


def _is_a(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    origin = typing.get_origin(kind)
    if origin in (list, tuple):
        element = typing.get_args(kind)[0]
        return isinstance(value, (list, tuple)) and all(_fits(item, element) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if kind in (int, float):
        # True and False are whole numbers to Python, and no user means 1 by true.
        return isinstance(value, (int,) if kind is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _within(value: Any, limits: Knob) -> bool:
    if isinstance(value, (list, tuple)):
        shortest, longest = limits.lengths
        return shortest <= len(value) <= longest and all(_within(item, limits) for item in value)
    if isinstance(value, str):
        return not limits.choices or value in limits.choices
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    return (
        # math.isfinite makes a float of its argument, and overflows for large whole numbers.
        (isinstance(value, int) or math.isfinite(value))
        and (limits.at_least is None or value >= limits.at_least)
        and (limits.above is None or value > limits.above)
        and (limits.at_most is None or value <= limits.at_most)
        and (limits.below is None or value < limits.below)
        and not (limits.odd and value % 2 == 0)
    )


def _expected(leaf: Leaf, value: Any) -> str:
    """What a value of the right type is not."""
    limits = leaf.knob
    words = f", {limits.words}" if limits.words else ""
    if limits.spelled or limits.form:
        return allowed(leaf)
    if limits.choices:
        return f"one of {', '.join(filter(None, limits.choices))}{', or nothing' if '' in limits.choices else ''}"
    if isinstance(value, (list, tuple)):
        return f"a {allowed(leaf)}"
    if isinstance(value, int) and int in _alternatives(leaf.hint):
        if limits.odd:
            return f"an odd number {_bounds(limits)}{words}"
        if limits.at_least is not None and value < limits.at_least:
            return f"at least {limits.at_least}{words}"
        return f"at most {limits.at_most}{words}"
    bounds = _bounds(limits)
    return (bounds if bounds.startswith("in ") else f"a finite number {bounds}".rstrip()) + words


def _allowed_instead(leaf: Leaf) -> str:
    """What a value of another type should have been."""
    if leaf.knob.choices and not leaf.knob.spelled:
        return _expected(leaf, "")
    text = allowed(leaf)
    plain = leaf.knob.spelled or leaf.knob.form or text.startswith(("true", "text"))
    return text if plain else f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _bounds(limits: Knob) -> str:
    """The bounds as an interval, or as the one that there is; whole bounds read `from 1 to 4096`."""
    low = limits.at_least if limits.above is None else limits.above
    high = limits.at_most if limits.below is None else limits.below
    if low is None and high is None:
        return ""
    if high is None:
        return f"{'>=' if limits.above is None else '>'} {low:g}"
    if low is None:
        return f"{'<=' if limits.below is None else '<'} {high:g}"
    if limits.above is None and limits.below is None and isinstance(high, int) and high > 1:
        return f"from {low:g} to {high}"
    return f"in {'[' if limits.above is None else '('}{low:g}, {high:g}{']' if limits.below is None else ')'}"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
