"""UDM10 (Yi et al., ICCV 2019): ten test clips, in one of three layouts.

ROOT/GT/archpeople/*.png with ROOT/BDx4 (BasicSR's), ROOT/truth/archpeople with ROOT/blur4, or as first published
ROOT/archpeople/truth with ROOT/archpeople/blur4. The clips' names differ between copies; there are ten.
"""

from __future__ import annotations

from pathlib import Path

from vsrprune.data.folder import is_no_data
from vsrprune.data.sets.layout import FoundClips, check_equal_lengths, first_folder, low_root, png_clip
from vsrprune.errors import UserError

CLIPS = 10


def find_udm10(root: Path, low: str, scale: int) -> FoundClips:
    """The ten clips; none to train on."""
    what = "data=udm10"
    published = {"bd": f"blur{scale}", "bi": f"bicubic{scale}"}[low]
    inside = sorted(folder for folder in root.glob("*/truth") if folder.is_dir() and not is_no_data(folder.parent))
    if inside:
        names = [folder.parent.name for folder in inside]
        low_folder, notes = low_root(what, [inside[0].with_name(published)])
        pairs = [(folder, low_folder and folder.with_name(published)) for folder in inside]
        place = root
    else:
        place = first_folder(f"{what}: the clips", [root / "GT", root / "truth"])
        names = sorted(folder.name for folder in place.iterdir() if folder.is_dir() and not is_no_data(folder))
        low_folder, notes = low_root(what, [root / f"{low.upper()}x{scale}", root / published])
        pairs = [(place / name, low_folder and low_folder / name) for name in names]
    if len(names) != CLIPS:
        raise UserError(f"{what}: {CLIPS} clips are expected in {place}; there are {len(names)}: {', '.join(names)}")
    clips = [png_clip(what, name, *pair) for name, pair in zip(names, pairs, strict=True)]
    check_equal_lengths(what, clips)
    return FoundClips([], clips, notes)
