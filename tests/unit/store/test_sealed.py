"""A sealed file is what was written, or is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from damaging import DAMAGE

from vsrprune.store.atomic import write_json
from vsrprune.store.sealed import read_sealed, write_sealed

VALUES = {"psnr": 30.125, "layers": [{"name": "conv", "kept": 3}], "steps": {10: -0.0, 9: 1e-300}, "note": "größer"}
READ = {**VALUES, "steps": {"10": -0.0, "9": 1e-300}}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", VALUES)
    assert read_sealed(tmp_path / "a.json") == READ


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_no_flipped_bit_and_no_cut_is_read_as_other_values(tmp_path: Path, damage: str) -> None:
    """A bit may flip in white space, or in the last line's end, and change no value."""
    path, refused = tmp_path / "a.json", 0
    for number in range(300):
        write_sealed(path, VALUES)
        DAMAGE[damage](path, random.Random(number))
        try:
            read = read_sealed(path)
        except ValueError:
            refused += 1
        else:
            changed_name = {name: value for name, value in read.items() if name in READ}
            assert changed_name == READ
    assert refused > 200


def test_a_file_without_a_checksum_is_taken_as_it_is(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", READ)
    assert read_sealed(tmp_path / "a.json") == READ


def test_a_list_is_no_sealed_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [1])
    with pytest.raises(ValueError, match="it holds no names"):
        read_sealed(tmp_path / "a.json")
