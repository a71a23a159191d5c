"""Checkpoints of a stage under way, mirrored to object storage, so that another machine can go on from them.

A working folder is mirrored as a list of files with their checksums; the list is written last. Objects that no list
names any more are deleted. The list names the working folder that it is of: who has this folder has all that was
mirrored, and perhaps more.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vsrprune.errors import UserError
from vsrprune.store.atomic import parse_json
from vsrprune.store.bucket import Bucket
from vsrprune.store.repeated import Repeated
from vsrprune.store.store import damage_of, sha256

NEWEST = "newest.json"
Files = dict[str, dict[str, Any]]  # name: bytes, sha256, and the object that holds it


@dataclass(frozen=True)
class MirrorPace:
    """Seconds between two mirrored states, and who is told where none could be sent."""

    seconds: float
    warn: Callable[[str], None]


class Mirror:
    """Mirrors the working folder of a stage until the context ends, and once more if it ends by an error.

    place: the prefix of the stage's objects. known: what the storage has of the folder already. mine: whether the stage
    is still this process's.
    """

    def __init__(
        self, bucket: Bucket, place: str, folder: Path, known: Files, mine: Callable[[], bool], every: MirrorPace
    ) -> None:
        self._bucket, self._place, self._folder, self._known = bucket, place, folder, known
        self._mine, self._warn = mine, every.warn
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._told = False
        self._copies = Repeated(every.seconds, self._try)

    def __enter__(self) -> Mirror:
        if self._known:  # the folder has a new name
            self._write_list(self._known)
        self._copies.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copies.end()
        if error is not None:
            self._try()

    def _try(self) -> None:
        try:
            self.copy()
        except (OSError, UserError) as error:
            # The work itself goes on; a later try may do it.
            if not self._told:
                self._told = True
                self._warn(f"checkpoints of {self._place.rpartition('/')[2]} could not be mirrored: {error}")

    def copy(self) -> None:
        """Send what is new in the folder. Raises OSError, UserError where it cannot be read or sent."""
        seen = {}
        for path in sorted(self._folder.rglob("*")):
            # A checkpoint may be dropped for a newer one at any time.
            if not path.name.startswith(".") and (looks := _looks(path)) is not None:
                seen[path.relative_to(self._folder).as_posix()] = looks
        if seen == self._seen or not seen:
            return
        files: Files = {}
        sent: list[str] = []
        # Of rows of losses, which grow meanwhile, and of a checkpoint that is still written, what is there now is sent:
        # whoever goes on checks the one and the other. Their looks will differ at the next copy.
        still = self._folder.parent.parent / f".{self._folder.parent.name}-sending"
        try:
            for name in reversed(seen):  # rows last, so that none is missing before a checkpoint
                before = self._known.get(name)
                if before is not None and seen[name] == self._seen.get(name):
                    files[name] = before
                    continue
                if not _copied(self._folder / name, still):
                    continue
                entry = {"bytes": still.stat().st_size, "sha256": sha256(still)}
                if before is None or before["sha256"] != entry["sha256"]:
                    before = {**entry, "object": f"{self._place}/{uuid.uuid4().hex}"}
                    sent.append(before["object"])
                    self._bucket.upload(before["object"], still)
                files[name] = before
        except (OSError, UserError):
            with contextlib.suppress(UserError):
                self._bucket.delete(sent)  # no list will name them
            raise
        finally:
            still.unlink(missing_ok=True)
        if files:  # else all of it went meanwhile
            self._write_list(files)
            self._seen = seen

    def _write_list(self, files: Files) -> None:
        if not self._mine():
            return  # whoever has the stage now mirrors it
        told = {"folder": self._folder.name, "files": files}
        self._bucket.write(f"{self._place}/{NEWEST}", json.dumps(told, indent=1).encode())
        kept = {entry["object"] for entry in files.values()}
        self._bucket.delete([entry["object"] for entry in self._known.values() if entry["object"] not in kept])
        self._known = files


def _looks(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _copied(path: Path, to: Path) -> bool:
    """Copy a file; False where there is none any more."""
    try:
        shutil.copyfile(path, to)
    except FileNotFoundError:
        return False
    return True


def mirrored(bucket: Bucket, place: str, base: Path) -> Files:
    """Have in `base` the working folder that was mirrored last, as the newest there, and return what it holds.

    A folder of that name that is here already is at least as far, and is left. What is not whole is left out: work that
    is lost is done again.
    """
    newest = bucket.read(f"{place}/{NEWEST}")
    if newest is None:
        return {}
    try:
        told = parse_json(newest.content.decode())
        folder, files = str(told["folder"]), dict(told["files"])
        objects = {name: str(entry["object"]) for name, entry in files.items()}
        is_path = Path(folder).name == folder and all({"bytes", "sha256"} <= set(entry) for entry in files.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    if not is_path:
        return {}
    if (base / folder).is_dir():
        return files
    base.mkdir(parents=True, exist_ok=True)
    arriving = base.parent / f".{base.name}-arriving"  # not in base, whose newest folder is gone on with
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir()
    for name, sent in objects.items():
        path = arriving / name
        if not path.resolve().is_relative_to(arriving.resolve()):
            return {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if not bucket.download(sent, path):
            break
    if damage_of(arriving, files) is not None:
        shutil.rmtree(arriving)
        return {}
    arriving.rename(base / folder)
    return files
