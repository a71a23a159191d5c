"""Damage to files, drawn from a seed: bits that flip, files that are cut, files that are gone."""

from __future__ import annotations

import os
import random
from pathlib import Path


def flip_a_bit(path: Path, draw: random.Random) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def cut(path: Path, draw: random.Random) -> None:
    """Take away the end of a file, at any byte."""
    os.truncate(path, draw.randrange(path.stat().st_size))


def delete(path: Path, draw: random.Random) -> None:
    """Remove a file."""
    path.unlink()


DAMAGE = {"flipped": flip_a_bit, "cut": cut, "deleted": delete}
