"""The published data sets by name, and the choice of their clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vsrprune.data.sets.layout import FoundClips
from vsrprune.data.sets.reds import find_reds, find_reds4
from vsrprune.data.sets.udm10 import find_udm10
from vsrprune.data.sets.vid4 import find_vid4
from vsrprune.data.sets.vimeo90k import find_vimeo90k
from vsrprune.data.sources import ClipSource
from vsrprune.errors import UserError

# find(root, low, scale): the clips under a folder, with low-resolution frames of kind `low` (bi or bd) where they are
# on disk. Raises UserError saying what is missing, and where it was looked for.
SETS: dict[str, Callable[[Path, str, int], FoundClips]] = {
    "reds": find_reds,
    "reds4": find_reds4,
    "vimeo90k": find_vimeo90k,
    "vid4": find_vid4,
    "udm10": find_udm10,
}


def find_set(name: str, knob: str, path: str, low: str, scale: int) -> FoundClips:
    """The clips of a set under the folder that `knob` names; at scale 1 their full-size frames alone."""
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(f"{knob} must be the folder of {name}; got {path!r}")
    found = SETS[name](root, low, scale)
    if scale > 1:
        return found
    # At scale 1 no stored input has the size of the truth. Where a low-resolution folder names no scale (sharp_bicubic
    # of REDS4), frames were found all the same; they are left out.
    train, val = ([ClipSource(clip.name, clip.files) for clip in clips] for clips in (found.train, found.val))
    return FoundClips(train, val)


def narrowed(knob: str, clips: Sequence[ClipSource], names: Sequence[str]) -> list[ClipSource]:
    """The clips of these names; all of them without names. Raises UserError for unknown names."""
    by_name = {clip.name: clip for clip in clips}
    for name in names:
        if name not in by_name:
            some = ", ".join(list(by_name)[:10]) + (", ..." if len(by_name) > 10 else "")
            raise UserError(f"{knob} names the unknown clip {name!r}; there are {len(by_name)}: {some}")
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(clips)
