"""Vimeo-90K septuplets (Xue et al., IJCV 2019): 64,612 clips to train on, 7,824 held out.

ROOT/vimeo_septuplet/sequences/00001/0001/im1.png to im7.png, with sep_trainlist.txt and sep_testlist.txt beside
`sequences`. Low resolution: ROOT/BIx4 or BDx4, or BasicSR's vimeo_septuplet_matlabLRx4/sequences and
vimeo_septuplet_BDLRx4/sequences, all with the same folders inside.
"""

from __future__ import annotations

import re
from pathlib import Path

from vsrprune.data.sets.layout import FoundClips, NumberedFrames, first_folder, low_root
from vsrprune.data.sources import ClipSource
from vsrprune.errors import UserError

FRAMES = tuple(f"im{index}.png" for index in range(1, 8))
LISTS = ("sep_trainlist.txt", "sep_testlist.txt")
BASICSR = {"bi": "vimeo_septuplet_matlabLRx{}", "bd": "vimeo_septuplet_BDLRx{}"}


def find_vimeo90k(root: Path, low: str, scale: int) -> FoundClips:
    """The clips of both lists; whether their frames exist is checked by `sizes_identity`, which looks at all anyway."""
    places = [root / "vimeo_septuplet" / "sequences", root / "sequences", root / "GT"]
    high = first_folder("data=vimeo90k: the clips", places)
    tree = f"{low.upper()}x{scale}"
    lows = [root / tree, root / "vimeo_septuplet" / tree, root / BASICSR[low].format(scale) / "sequences"]
    low_folder, notes = low_root("data=vimeo90k", lows)
    train, val = (_clips(_list(root, high, name), high, low_folder) for name in LISTS)
    # A clip in both would be trained on and tested.
    both = {clip.name for clip in train} & {clip.name for clip in val}
    if both:
        raise UserError(f"data=vimeo90k: {sorted(both)[0]} and {len(both) - 1} more clips are in both of {LISTS}")
    return FoundClips(train, val, notes)


def _list(root: Path, high: Path, name: str) -> list[str]:
    """The clips that a list names: lines such as `00001/0001`, with more behind in BasicSR's meta files."""
    places = [high.parent / name, root / name]
    for path in places:
        if path.is_file():
            text = path.read_text("utf-8-sig", errors="replace")
            lines = list(dict.fromkeys(line.split()[0] for line in text.splitlines() if line.strip()))
            wrong = [line for line in lines if not re.fullmatch(r"\d{5}/\d{4}", line)]
            if wrong or not lines:
                raise UserError(f"{path}: lines such as 00001/0001 are expected; got {(wrong or ['nothing'])[0]!r}")
            return lines
    raise UserError(
        f"data=vimeo90k: the list {name} not found; looked for {', '.join(map(str, dict.fromkeys(places)))}"
    )


def _clips(names: list[str], high: Path, low: Path | None) -> list[ClipSource]:
    return [
        ClipSource(
            name.replace("/", "_"),
            NumberedFrames(high / name, FRAMES),
            () if low is None else NumberedFrames(low / name, FRAMES),
        )
        for name in names
    ]
