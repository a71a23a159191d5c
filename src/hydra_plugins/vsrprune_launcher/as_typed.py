"""The jobs that a sweep's command means, and its numbers as typed, where Hydra computes or writes them otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType, RangeSweep

from vsrprune.host.naming import telling_overrides


def typed_numbers(sweeps: Sequence[str]) -> dict[str, str | None]:
    """Overrides that Hydra makes of ranges of decimal numbers -> what was meant, None beyond the end of the range.

    Hydra adds up binary fractions: range(0,1,0.3) ends in 0.8999999999999999.
    """
    meant: dict[str, str | None] = {}
    for override in OverridesParser.create().parse_overrides(list(sweeps)):
        sweep = override.value()
        if not isinstance(sweep, RangeSweep) or isinstance(sweep.range(), range):
            continue
        start, stop, step = (Decimal(str(value)) for value in (sweep.start, sweep.stop, sweep.step))
        key = override.get_key_element()
        for index, value in enumerate(sweep.range()):
            number = start + index * step
            inside = number < stop if step > 0 else number > stop
            meant[f"{key}={value}"] = f"{key}={float(number)}" if inside else None
    return meant


def numbers_as_typed(arguments: Sequence[str]) -> dict[str, str]:
    """Overrides as Hydra writes them -> as they were typed, for numbers that Hydra writes in another way, such as 1e-3.

    For names alone: what Hydra writes is what jobs are told apart by.
    """
    found: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        if (override.is_sweep_override() and not override.is_choice_sweep()) or override.type is OverrideType.DEL:
            continue
        swept = override.is_sweep_override()
        written = list(override.sweep_string_iterator()) if swept else [override.get_value_element_as_str()]
        body = str(override.input_line).partition("=")[2].strip().removeprefix("choice(").removesuffix(")")
        texts = [text.strip() for text in body.split(",")] if swept else [body]
        if len(texts) != len(written):  # lists, or texts in quotes
            continue
        key = override.get_key_element()
        for before, text in zip(written, texts, strict=True):
            if str(before) != text and re.fullmatch(r"[-+]?[\d_.]+(e[-+]?\d+)?", text, re.IGNORECASE):
                found.setdefault(f"{key}={before}", f"{key}={text}")
    return found


def differing_jobs(jobs: Sequence[Sequence[str]], typed: Mapping[str, str | None]) -> list[list[str]]:
    """Each job once, in order, with values of ranges as they were typed; without those beyond a range's end.

    Jobs that differ only in where and how they run are one: they would share a name and a folder.
    """
    meant = [[typed.get(item, item) for item in job] for job in jobs]
    inside = [[item for item in job if item is not None] for job in meant if None not in job]
    first = {tuple(telling_overrides(job)): job for job in reversed(inside)}
    return [job for job in inside if job is first[tuple(telling_overrides(job))]]
