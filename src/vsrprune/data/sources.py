"""Where clips come from, and a hash that shows whether they changed. Without torch, so that keys stay cheap."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vsrprune.errors import UserError
from vsrprune.store.atomic import read_json, write_cache
from vsrprune.store.sealed import checksum_of

FRAME_SUFFIX = ".png"  # of frames that are written
COMPRESSED_SUFFIXES = (".jpg", ".jpeg")
FRAME_SUFFIXES = (FRAME_SUFFIX, *COMPRESSED_SUFFIXES)
VIDEO_DECODING = 3  # raise it when the same video comes to other pixels
SMALLEST_SIDE = 11  # SSIM's window; stated again here, since metrics/ imports torch
HASHES = "data_hashes.json"  # in the store: sampled hashes of files
_SAMPLE_BYTES = 1 << 16  # from the start, the middle and the end of a file


@dataclass(frozen=True)
class ClipSource:
    """One clip on disk: a video file, or the PNG or JPEG frames of a folder in order of their names.

    low_files: frames of the same clip at low resolution, as many; none where they are made from the others.
    """

    name: str
    files: Sequence[Path]
    low_files: Sequence[Path] = ()

    @property
    def is_video(self) -> bool:
        """Whether the clip is a single video file."""
        return self.files[0].suffix.lower() not in FRAME_SUFFIXES


def demo_photo(name: str) -> Path:
    """Path of a photograph inside the installed scikit-image wheel (scikit-image itself is not imported)."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("data=demo needs scikit-image, whose wheel carries the photographs: pip install scikit-image")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    for suffix in (".png", ".jpg"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise UserError(f"data=demo: the photograph {name!r} is not in {folder}; install scikit-image 0.26")


def split_clips(
    clips: Sequence[ClipSource], train: Sequence[str], val: Sequence[str], val_share: float, seed: int
) -> tuple[list[ClipSource], list[ClipSource]]:
    """Train and held-out clips, never both.

    train, val: names of clips; an empty `train` is all clips but `val`. With both empty, a share of the clips drawn
    by `seed` is held out (at least one). Raises UserError for unknown names, overlap, or an empty side.
    """
    by_name = {clip.name: clip for clip in clips}
    for knob, names in (("data.train", train), ("data.val", val)):
        for name in names:
            if name not in by_name:
                raise UserError(f"{knob} names the unknown clip {name!r}; there are: {', '.join(by_name)}")
    both = sorted(set(train) & set(val))
    if both:
        raise UserError(f"data.train and data.val share {', '.join(both)}; a held-out clip is never trained on")
    held_out = list(dict.fromkeys(val))
    if not held_out:
        free = [name for name in by_name if name not in train]
        if train:
            held_out = free
        elif len(free) > 1:
            count = max(1, min(len(free) - 1, round(len(free) * val_share)))
            # A generator of its own: nothing else that draws random numbers may change a split.
            held_out = sorted(random.Random(seed).sample(free, count))
    trained = list(dict.fromkeys(train)) or [name for name in by_name if name not in held_out]
    if not held_out or not trained:
        raise UserError(
            f"data needs at least one clip to train on and one held out; got {len(trained)} and {len(held_out)}"
            f" of {len(clips)} ({', '.join(by_name)})"
        )
    return [by_name[name] for name in trained], [by_name[name] for name in held_out]


def set_aside(
    clips: Sequence[ClipSource], test: Sequence[str], others: Sequence[str]
) -> tuple[list[ClipSource], list[ClipSource]]:
    """The clips of the names in `test`, and the rest.

    others: names that are trained on or held out. Raises UserError for an unknown name, for one that is in both, and
    where too few are left to train on and to hold out.
    """
    by_name = {clip.name: clip for clip in clips}
    for name in test:
        if name not in by_name:
            raise UserError(f"data.test names the unknown clip {name!r}; there are: {', '.join(by_name)}")
        if name in others:
            raise UserError(
                f"data.test names {name}, which is in data.train or data.val too; a test clip is neither trained on nor"
                " chosen by"
            )
    aside = list(dict.fromkeys(test))
    rest = [clip for clip in clips if clip.name not in aside]
    if aside and len(rest) < 2:
        raise UserError(
            f"data.test sets aside {len(aside)} of {len(clips)} clips; at least two must be left, one to train on and"
            " one to hold out"
        )
    return [by_name[name] for name in aside], rest


def check_crop(what: str, size: tuple[int, int], crop: int) -> None:
    """Raise UserError if less than SSIM's window is left of frames of `size` after cropping their border."""
    if min(size) - 2 * crop < SMALLEST_SIDE:
        raise UserError(
            f"data.crop={crop} leaves less than {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, the window of SSIM, of {what}"
            f" ({size[1]}x{size[0]})"
        )


def photos_identity(names: Iterable[str]) -> str:
    """Hash of the content of demo photographs."""
    return hashlib.sha256(b"".join(map(_photo_digest, names))).hexdigest()[:16]


@cache  # the jobs of a sweep share them
def _photo_digest(name: str) -> bytes:
    return hashlib.sha256(demo_photo(name).read_bytes()).digest()


def clips_identity(clips: Sequence[ClipSource], cache: Path) -> str:
    """Hash of clip names and, per file, its name, size and samples of its content; folders do not count.

    Sampled hashes are kept in the JSON file `cache` and reused while size and modification time stay the same.
    """
    # Sampled, not read whole: gigabytes of video would take minutes. A change that keeps the size and all three samples
    # is not to be expected of an encoder.
    known = _read_cache(cache)
    fresh: dict[str, str] = {}
    digest = hashlib.sha256()
    for clip in clips:
        decoded = f"|decoding {VIDEO_DECODING}" if clip.is_video else ""
        digest.update(f"/{clip.name}{decoded}".encode())  # no name contains a slash
        for file in (*clip.files, *clip.low_files):
            stat = file.stat()
            # The cache goes by place and time, the hash by content alone: a copied data set has the same keys.
            entry = f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
            fresh[entry] = known.get(entry) or _sampled_hash(file, stat.st_size)
            digest.update(f"|{file.name}|{stat.st_size}|{fresh[entry]}".encode())
    if fresh.keys() - known.keys():
        every = {**known, **fresh}
        # Of a store that may only be read, none.
        write_cache(cache, json.dumps({"sha256": checksum_of(every), "hashes": every}))
    return digest.hexdigest()[:16]


def sizes_identity(clips: Sequence[ClipSource]) -> str:
    """Hash of clip names and the names and sizes of their files; no file is opened.

    For published data sets: their PNG sizes tell their content, and samples of 900,000 files would take hours.
    Raises UserError for the first file that is missing.
    """
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"/{clip.name}".encode())
        for part in (clip.files, clip.low_files):
            for file in part:
                try:
                    size = os.stat(file).st_size
                except OSError as error:
                    raise UserError(f"{file}: this frame of the clip {clip.name} is missing") from error
                digest.update(f"|{file.name}|{size}".encode())
            digest.update(b"#")
    return digest.hexdigest()[:16]


def _read_cache(cache: Path) -> dict[str, str]:
    """The hashes in a cache; none if there is no cache, or a damaged one."""
    try:
        content = read_json(cache)
        # A hash that was changed would give the same data another identity, and every stage would be computed again.
        return content["hashes"] if content["sha256"] == checksum_of(content["hashes"]) else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}  # a cache may always be thrown away


def are_hashes_whole(cache: Path) -> bool:
    """Whether the cache of hashes, if there is one, is as it was written."""
    return not cache.exists() or (cache.is_file() and bool(_read_cache(cache)))


def _sampled_hash(file: Path, size: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for position in (0, size // 2, max(size - _SAMPLE_BYTES, 0)):
            stream.seek(position)
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]
