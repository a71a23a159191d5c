"""Decoded clips as memory maps: a window of a clip is read without decoding the clip, from sets larger than memory.

FOLDER/<key>/ holds high.npy, low.npy (not at scale 1), both uint8 as in `Clip`, and clip.json; of a clip without truth
low.npy alone. A key depends on the
files of the clip and on how they are read; a folder appears whole or not at all. A job reads every byte of its clips
against their checksums before it uses any (`cache_folder.py`), since what comes of them is published for good.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from vsrprune.data.cache_folder import (
    HIGH,
    LOW,
    Checked,
    Verified,
    check_still_verified,
    put_aside,
    verify,
    write_description,
)
from vsrprune.data.clips import Clip, ClipSet, input_clip
from vsrprune.data.look import first_look
from vsrprune.data.reading import Notes, Reading, read_clip, scenes
from vsrprune.data.sources import VIDEO_DECODING, ClipSource
from vsrprune.errors import UserError
from vsrprune.host.progress import StageProgress
from vsrprune.store.store import content_key

GB, RGB = 1e9, 3
FORMAT = 2  # of clip.json; raise it when a folder of before can no longer be verified
READERS = 4  # threads that verify


@dataclass(frozen=True)
class CachedClip:
    """A verified clip, or a scene of it."""

    name: str
    arrays: tuple[Checked, ...]
    start: int = 0
    stop: int | None = None

    def open(self) -> Clip:
        """The clip as memory maps: pixels are read from the disk when they are used.

        Raises UserError if its files are no longer those that were verified.
        """
        for array in self.arrays:
            check_still_verified(array)
        videos = {array.path.name: _mapped(array.path)[self.start : self.stop] for array in self.arrays}
        if HIGH not in videos:
            return input_clip(self.name, videos[LOW])
        # Without low.npy (scale 1) the input is the truth itself.
        return Clip(self.name, videos[HIGH], videos.get(LOW, videos[HIGH]))


class CachedClips(Sequence[Clip]):
    """Clips that are opened when they are drawn: large sets have more files than a system maps at once.

    Linux maps 65,530 files per process by default; Vimeo-90K has 129,224 here.
    """

    def __init__(self, entries: Sequence[CachedClip]) -> None:
        self._entries = entries

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> CachedClips: ...
    def __getitem__(self, index: int | slice) -> Clip | CachedClips:
        """Open one clip, or choose several."""
        if isinstance(index, slice):
            return CachedClips(self._entries[index])
        return self._entries[index].open()

    def __len__(self) -> int:
        """Number of clips."""
        return len(self._entries)


def cached_clips(
    train: Sequence[ClipSource], val: Sequence[ClipSource], how: Reading, folder: Path, say: Callable[[str], None]
) -> ClipSet:
    """Clips on disk, verified; those that are not in the cache are decoded into it first, and `say` is told how much.

    What is damaged is set aside and decoded again, and `say` is told that too. Raises UserError if there is no room.
    """
    notes = Notes()
    # By identity: a ClipSource of thousands of files is costly to hash.
    folders = {id(source): folder / _key(source, how) for source in (*train, *val)}
    found = _verified(folders.values())
    missing = []
    for source in (*train, *val):
        at = folders[id(source)]
        if isinstance(damage := found[at], str):
            say(
                f"warning: the cached clip {source.name} is damaged: {damage}; set aside in {put_aside(at)}, it is"
                " decoded again"
            )
        if not isinstance(found[at], Verified):
            missing.append(source)
    if missing:
        _check_room(missing, how, folder, len(folders), say)
    with StageProgress("cache", max(len(missing), 1)) as progress:
        for done, source in enumerate(missing, start=1):
            at = folders[id(source)]
            _decode(source, how, at, notes)
            found[at] = verify(at)
            progress.update(done)

    def entries(sources: Sequence[ClipSource]) -> CachedClips:
        parts = [_entries(source, found[folders[id(source)]], how, notes) for source in sources]
        return CachedClips([entry for part in parts for entry in part])

    return ClipSet(entries(train), entries(val), notes.lines())


def _verified(folders: Iterable[Path]) -> dict[Path, Verified | str | None]:
    # In threads: hashing lets others compute, and reads of several files at a time keep a disk busy.
    with ThreadPoolExecutor(READERS) as pool:
        each = list(dict.fromkeys(folders))
        return dict(zip(each, pool.map(verify, each), strict=True))


def _key(source: ClipSource, how: Reading) -> str:
    # Times of modification count, as in `make`: looking into 900,000 files would take hours.
    stats = [(file.name, os.stat(file)) for file in (*source.files, *source.low_files)]
    files = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    read = {"scale": how.scale, "max_frames": how.max_frames, "halve": how.halve, "low": len(source.low_files)}
    read["format"] = FORMAT
    read |= {} if how.truth else {"truth": False}
    read |= {"decoding": VIDEO_DECODING} if source.is_video else {}
    return content_key({"clip": source.name, "files": files, "degradation": how.degradation, **read})


def _check_room(
    sources: Sequence[ClipSource], how: Reading, folder: Path, clips: int, say: Callable[[str], None]
) -> None:
    needed = sum(_decoded_bytes(source, how) for source in sources)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "no permission"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        # It is asked for where memory does not hold the clips, so that doing without it is no way out.
        raise UserError(
            f"data.cache_dir={folder}: nothing can be written there ({reason}); name another folder, or use"
            " data.cache=false if the clips fit into memory"
        )
    free = shutil.disk_usage(folder).free
    sizes = f"{needed / GB:.1f} GB, {free / GB:.1f} GB are free"
    if needed > free:
        raise UserError(
            f"data.cache_dir={folder}: no room to decode {len(sources)} clips ({sizes}); name another folder, or use"
            " data.cache=false if they fit into memory"
        )
    say(f"  cache      decodes {len(sources)} of {clips} clips into {folder}, once: {sizes}")


def _decoded_bytes(source: ClipSource, how: Reading) -> float:
    """How many bytes the clip takes, from headers alone; 0 if they cannot be read, which decoding will report."""
    look = first_look(source)
    if look is None:
        return 0
    pixels = look.size[0] * look.size[1]
    decoded = min(look.frames, how.max_frames or look.frames) * pixels * RGB // (4 if how.halve else 1)
    return float(decoded) * (1 + (1 / how.scale**2 if how.truth and how.scale > 1 else 0))


def _decode(source: ClipSource, how: Reading, folder: Path, notes: Notes) -> None:
    """Write the folder of a clip. Two processes may do it at the same time; the first to rename wins."""
    own = Notes()
    clip = read_clip(source, how, own)
    if clip is None:
        notes.left_out(own.reasons[0])
        return
    videos = {HIGH: clip.high_TCHW} if how.truth else {}
    videos |= {LOW: clip.low_TCHW} if how.scale > 1 or not how.truth else {}
    beside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    beside.mkdir(parents=True)
    try:
        for name, video_TCHW in videos.items():
            with (beside / name).open("wb") as stream:
                np.save(stream, video_TCHW.numpy())
                stream.flush()
                os.fsync(stream.fileno())
        write_description(beside, source.name, {name: video.shape for name, video in videos.items()}, own.said)
        beside.rename(folder)
    except OSError:
        if not isinstance(verify(folder), Verified):  # else another process was first
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _entries(source: ClipSource, clip: Verified | str | None, how: Reading, notes: Notes) -> list[CachedClip]:
    if clip is None:
        return []  # it could not be read, and data.on_error=skip left it out
    if isinstance(clip, str):
        raise UserError(f"the cached clip {source.name} was damaged right after it was decoded: {clip}; check the disk")
    for what in clip.notes:
        notes.add(source.name, what)
    whole = CachedClip(source.name, clip.arrays)
    if not how.scene_cut:
        return [whole]
    return [
        CachedClip(name, clip.arrays, part.start or 0, part.stop) for name, part in scenes(whole.open(), how, notes)
    ]


def _mapped(file: Path) -> Tensor:
    # "c" is copy on write: torch warns of read-only arrays, and nobody may write into the cache.
    return torch.from_numpy(np.load(file, mmap_mode="c"))
