"""Vid4 (Liu and Sun, 2014): four test clips, ROOT/GT/calendar/*.png and ROOT/BIx4 or BDx4/calendar/*.png."""

from __future__ import annotations

from pathlib import Path

from vsrprune.data.sets.layout import FoundClips, check_all_there, first_folder, low_root, png_clip

CLIPS = ("calendar", "city", "foliage", "walk")


def find_vid4(root: Path, low: str, scale: int) -> FoundClips:
    """The four clips; none to train on."""
    high = first_folder("data=vid4: the clips", [root / "GT", root / "original"])
    low_folder, notes = low_root("data=vid4", [root / f"{low.upper()}x{scale}"])
    check_all_there("data=vid4", [name for name in CLIPS if (high / name).is_dir()], CLIPS, [high])
    clips = [png_clip("data=vid4", name, high / name, low_folder and low_folder / name) for name in CLIPS]
    return FoundClips([], clips, notes)
