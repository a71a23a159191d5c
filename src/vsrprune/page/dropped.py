"""Clips that were dropped onto the page, in a folder of their own; and the demo's, for who has none at hand."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from vsrprune.data.demo_photos import VAL_PHOTOS
from vsrprune.errors import UserError

MOST_BYTES = 4 * 2**30  # of a clip
LONGEST_NAME = 120  # letters; file systems take 255 bytes
DEMO_FRAMES, DEMO_SEED = 16, 0
DEMO = tuple(f"demo:{name}" for name in VAL_PHOTOS)


@dataclass(frozen=True)
class Clips:
    """Clips below `folder`, each in a folder named by its id."""

    folder: Path
    _rendering: Lock = field(default_factory=Lock)

    def new(self, keep: str = "") -> str:
        """The id of a clip without files. Clips that were dropped before are removed, but for the one to `keep`."""
        with self._rendering:
            for other in self.folder.iterdir():
                if other.name not in (*DEMO, keep):
                    shutil.rmtree(other, ignore_errors=True)
        clip = uuid.uuid4().hex
        (self.folder / clip).mkdir()
        return clip

    async def add(self, clip: str, name: str, content: AsyncIterator[bytes]) -> None:
        """Write a file of a clip as it arrives. Raises UserError for a clip that is gone, and beyond MOST_BYTES."""
        target = self._folder_of(clip) / _safe(name)
        size = sum(file.stat().st_size for file in target.parent.iterdir())
        with target.open("wb") as file:
            async for part in content:
                size += len(part)
                if size > MOST_BYTES:
                    file.close()
                    target.unlink()
                    raise UserError(f"{target.name}: clips of more than {MOST_BYTES >> 30} GiB are for src/upscale.py")
                file.write(part)

    def source(self, clip: str) -> Path:
        """What is to be read of a clip: its one file, or the folder of its pictures. Raises UserError without any."""
        folder = self._folder_of(clip)
        files = list(folder.iterdir())
        if not files:
            raise UserError("the clip has no files; drop a video or pictures")
        return files[0] if len(files) == 1 else folder

    def _folder_of(self, clip: str) -> Path:
        folder = self.folder / clip
        if clip in DEMO:
            with self._rendering:
                if not folder.is_dir():
                    self._render()
        if clip not in [entry.name for entry in self.folder.iterdir()]:
            raise UserError("this clip is no longer here; drop it again")
        return folder

    def _render(self) -> None:
        """Write the demo's held-out clips as PNG frames."""
        from PIL import Image

        from vsrprune.data.demo import demo_clips  # it imports torch

        for clip in demo_clips(1, DEMO_SEED, 0, 1, DEMO_FRAMES).val:
            unfinished = self.folder / uuid.uuid4().hex
            unfinished.mkdir()
            for index, frame_CHW in enumerate(clip.high_TCHW):
                Image.fromarray(frame_CHW.permute(1, 2, 0).contiguous().numpy()).save(unfinished / f"{index:05d}.png")
            unfinished.rename(self.folder / f"demo:{clip.name.rpartition('_')[0]}")


def _safe(name: str) -> str:
    """The last part of a name, not hidden, shortened in the middle."""
    last = Path(name.replace("\\", "/").replace("\0", "")).name.lstrip(".") or "clip"
    return last if len(last) <= LONGEST_NAME else f"{last[: LONGEST_NAME // 2]}{last[-LONGEST_NAME // 2 :]}"
