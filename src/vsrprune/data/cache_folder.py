"""The folder of one cached clip: what lies in it, and whether its bytes are those that were decoded. Without torch.

clip.json holds the shape and the SHA-256 of every array, and a checksum of its own.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vsrprune.errors import UserError
from vsrprune.store.atomic import read_json, write_json
from vsrprune.store.sealed import checksum_of
from vsrprune.store.store import sha256

HIGH, LOW, ABOUT = "high.npy", "low.npy", "clip.json"
CHECKSUMS, OWN_CHECKSUM = "sha256", "description_sha256"
CLIPS = "cache"  # the folder of the store in which clips are decoded, unless data.cache_dir names another
ASIDE = "damaged"  # the folder of the cache in which damaged clips are kept

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Checked:
    """An array whose checksum was right when the file had this stamp (inode, bytes, time of modification)."""

    path: Path
    sha256: str
    stamp: Stamp


@dataclass(frozen=True)
class Verified:
    """A clip whose files have all been read and are right; its high-resolution array comes first."""

    arrays: tuple[Checked, ...]
    notes: tuple[str, ...]


def write_description(folder: Path, clip: str, shapes: Mapping[str, Sequence[int]], notes: Sequence[str]) -> None:
    """Write clip.json for the arrays that lie in `folder`, with their checksums."""
    sums = {name: sha256(folder / name) for name in shapes}
    dimensions: dict[str, Any] = {name: list(shape) for name, shape in shapes.items()}
    about = {**dimensions, CHECKSUMS: sums, "clip": clip, "notes": list(notes)}
    write_json(folder / ABOUT, {OWN_CHECKSUM: checksum_of(about), **about})


def verify(folder: Path) -> Verified | str | None:
    """The clip, every byte of which was read; a sentence if it is damaged; None if there is none."""
    if not folder.exists():
        return None
    try:
        about = read_json(folder / ABOUT)
        if about.pop(OWN_CHECKSUM) != checksum_of(about):
            return f"{ABOUT} fails its checksum"
        expected: dict[str, str] = about[CHECKSUMS]
        arrays = []
        for name in sorted(expected):  # high.npy before low.npy
            path = folder / name
            arrays.append(Checked(path, expected[name], _stamp(path)))  # before it is read: a later change shows
            if sha256(path) != expected[name]:
                return f"{name} fails its checksum"
        return Verified(tuple(arrays), tuple(about["notes"]))
    except OSError as error:
        return f"{Path(error.filename or ABOUT).name} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{ABOUT} cannot be read"


def put_aside(folder: Path) -> Path:
    """Move a damaged clip out of the way; where it lies now."""
    # Renamed at once and under a name that nobody else draws: other processes may do the same at the same time.
    aside = folder.parent / ASIDE / f"{folder.name}-{uuid.uuid4().hex[:8]}"
    aside.parent.mkdir(exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
    return aside


def check_still_verified(array: Checked) -> None:
    """Raise UserError if the file is no longer what was verified; as long as nobody wrote it this is one system call.

    A copy that another process decoded again meanwhile is as good: its checksum tells.
    """
    with contextlib.suppress(OSError):
        stamp = _stamp(array.path)
        if stamp == array.stamp or _has(array.path, array.sha256, stamp):
            return
    raise UserError(
        f"{array.path}: this cached clip was changed or removed while it was used; run the same command again, which"
        " decodes it again"
    )


def cached_folders(cache: Path) -> Iterator[Path]:
    """The folders of all clips in a cache."""
    if cache.is_dir():
        yield from (path for path in sorted(cache.iterdir()) if path.name != ASIDE and not path.name.startswith("."))


@lru_cache(maxsize=1024)
def _has(path: Path, expected: str, stamp: Stamp) -> bool:
    # `stamp` is looked at by lru_cache alone: the same file is read once, whoever opens it how often.
    return sha256(path) == expected


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
