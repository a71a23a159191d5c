"""REDS (Nah et al., CVPRW 2019) with the split of the literature: REDS4 is held out, the other 266 clips train.

ROOT/train_sharp/000/00000000.png and ROOT/train_sharp_bicubic/X4/000/00000000.png, clips 000 to 239. The 30 official
validation clips count as 240 to 269, whether they lie renamed in the folders of the others, or in ROOT/val_sharp/000
and ROOT/val_sharp_bicubic/X4/000.
"""

from __future__ import annotations

from pathlib import Path

from vsrprune.data.sets.layout import FoundClips, check_all_there, check_equal_lengths, first_folder, low_root, png_clip
from vsrprune.errors import UserError

REDS4 = ("000", "011", "015", "020")
TRAIN_CLIPS, ALL_CLIPS = 240, 270  # the official training clips, and with the 30 for validation


def find_reds(root: Path, low: str, scale: int) -> FoundClips:
    """All 266 training clips and the four of REDS4."""
    _only_bicubic("reds", low)
    trees = _Trees(root, scale)
    train_names = [f"{index:03d}" for index in range(ALL_CLIPS)]
    check_all_there("data=reds", [name for name in train_names if trees.high(name).is_dir()], train_names, trees.places)
    clips = [png_clip("data=reds", name, trees.high(name), trees.low(name)) for name in train_names]
    check_equal_lengths("data=reds", clips)
    train = [clip for clip in clips if clip.name not in REDS4]
    return FoundClips(train, [clip for clip in clips if clip.name in REDS4], trees.notes)


def find_reds4(root: Path, low: str, scale: int) -> FoundClips:
    """REDS4 alone: in ROOT/GT and ROOT/sharp_bicubic (or ROOT/BIx4), or inside a whole REDS."""
    _only_bicubic("reds4", low)
    high = first_folder("data=reds4: the clips", [root / "GT", *_both(root, "train_sharp")])
    lows = [root / f"BIx{scale}", root / "sharp_bicubic", *_both(root, f"train_sharp_bicubic/X{scale}")]
    low_folder, notes = low_root("data=reds4", lows)
    check_all_there("data=reds4", [name for name in REDS4 if (high / name).is_dir()], REDS4, [high])
    clips = [png_clip("data=reds4", name, high / name, low_folder and low_folder / name) for name in REDS4]
    check_equal_lengths("data=reds4", clips)
    return FoundClips([], clips, notes)


class _Trees:
    """Where a clip's frames are, official or regrouped."""

    def __init__(self, root: Path, scale: int) -> None:
        self._train = first_folder("data=reds: the clips", _both(root, "train_sharp"))
        self._val = [folder for folder in (root / "val_sharp", root / "val" / "val_sharp") if folder.is_dir()]
        self._low, self.notes = low_root("data=reds", _both(root, f"train_sharp_bicubic/X{scale}"))
        places = (root / f"val_sharp_bicubic/X{scale}", root / "val" / f"val_sharp_bicubic/X{scale}")
        self._val_low = [folder for folder in places if folder.is_dir()] or [places[0]]
        self.places = [self._train, *(self._val or [root / "val_sharp"])]

    def high(self, name: str) -> Path:
        return self._in(name, self._train, self._val)

    def low(self, name: str) -> Path | None:
        return None if self._low is None else self._in(name, self._low, self._val_low)

    def _in(self, name: str, train: Path, val: list[Path]) -> Path:
        if int(name) < TRAIN_CLIPS or (train / name).is_dir() or not val:
            return train / name
        return val[0] / f"{int(name) - TRAIN_CLIPS:03d}"


def _both(root: Path, folder: str) -> list[Path]:
    """The official archives unpack into a folder `train`."""
    return [root / folder, root / "train" / folder]


def _only_bicubic(name: str, low: str) -> None:
    if low != "bi":
        raise UserError(f"data.low={low} is given, but data={name} has low-resolution frames by bicubic alone; use bi")
