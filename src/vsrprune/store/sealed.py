"""JSON files that tell whether they are what was written: a bit that flips in a digit makes another number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsrprune.store.atomic import read_json, write_json

SEAL = "sha256"


def checksum_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of values that came from JSON, whatever their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` with their checksum, as `write_json` does."""
    # Read back: JSON makes texts of keys that are numbers, and these sort otherwise.
    write_json(path, {SEAL: checksum_of(json.loads(json.dumps(values))), **values})


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote. Raises as `read_json`, and ValueError where the checksum tells of a change.

    A file without a checksum was written by hand, or by another program, and is taken as it is.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError("it holds no names")
    found = values.pop(SEAL, None)
    if found is not None and found != checksum_of(values):
        raise ValueError("it fails its checksum")
    return values
