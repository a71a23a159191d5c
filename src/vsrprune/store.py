"""Stage artifacts by content key: published whole or not at all, verified when read.

- STORE/<stage>/<key>/: manifest.json and files of a published artifact
- STORE/work/<stage>-<key>/: checkpoints of a stage that is not finished
- STORE/damaged/<stage>-<key>-<n>/: an artifact whose checksum failed, set aside
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsrprune.errors import UserError

MANIFEST = "manifest.json"


def content_key(settings: Mapping[str, Any]) -> str:
    """16 hex digits that depend on the settings' values, not on their order; floats are compared to 9 digits."""
    text = json.dumps(_canonical(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.9g}")  # range(.3,.8,.2) yields 0.7000000000000001
    return value


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.parent / f".{path.name}-{uuid.uuid4().hex}"  # not mkstemp: others may read what we write
    try:
        with beside.open("x") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    write_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def explain_os_error(error: OSError) -> str | None:
    """One line for the errors of a full or read-only disk, else None."""
    where = f" while writing {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; free some space and run the same command again, finished stages are kept"
    if error.errno in (errno.EROFS, errno.EACCES):
        return f"no permission to write{where}; choose other folders with store_dir=... runs_dir=..."
    return None


@dataclass(frozen=True)
class Artifact:
    """A published, verified stage."""

    folder: Path
    manifest: dict[str, Any]

    def path(self, name: str) -> Path:
        """Path of one of its files."""
        return self.folder / name

    def json(self, name: str) -> Any:
        """Content of one of its JSON files."""
        return json.loads(self.path(name).read_text())

    @property
    def seconds(self) -> float:
        """How long it took to make."""
        return float(self.manifest["seconds"])


class Store:
    """A folder of artifacts."""

    def __init__(self, root: Path, warn: Callable[[str], None]) -> None:
        self.root, self._warn = root, warn

    def exists(self, stage: str, key: str) -> bool:
        """Whether the artifact is published; its content is not verified."""
        return (self._folder(stage, key) / MANIFEST).is_file()

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact, or None if there is none; one that fails its checksums is set aside with a warning."""
        folder = self._folder(stage, key)
        if not folder.is_dir():
            return None
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            damage = _damage(folder, manifest["files"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            manifest, damage = {}, f"{MANIFEST} cannot be read ({error})"
        if damage is None:
            return Artifact(folder, manifest)
        aside = self._set_aside(folder, stage, key)
        self._warn(f"{stage} {key} is damaged: {damage}; set aside in {aside}, it will be computed again")
        return None

    def workdir(self, stage: str, key: str) -> Path:
        """Where an unfinished stage keeps its checkpoints; survives a crash, gone after publishing."""
        folder = self.root / "work" / f"{stage}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def produce(
        self, stage: str, key: str, settings: Mapping[str, Any], make: Callable[[Path, Path], None]
    ) -> Artifact:
        """Call `make(folder, workdir)`, which fills `folder` with the artifact's files, and publish them."""
        started = time.monotonic()
        work = self.workdir(stage, key)
        parent = self._folder(stage, key).parent
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=parent))
        try:
            make(folder, work)
            self._publish(folder, stage, key, settings, time.monotonic() - started)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # empty-handed after a rename; else a half-made artifact
        shutil.rmtree(work, ignore_errors=True)
        artifact = self.find(stage, key)
        if artifact is None:
            raise UserError(f"{stage} {key} could not be read back from {self.root}; check the disk")
        return artifact

    def _publish(self, folder: Path, stage: str, key: str, settings: Mapping[str, Any], seconds: float) -> None:
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                _fsync(path)
                files[path.relative_to(folder).as_posix()] = {
                    "bytes": path.stat().st_size,
                    "sha256": _sha256(path),
                }
        write_json(
            folder / MANIFEST,
            {
                "stage": stage,
                "key": key,
                "settings": _canonical(settings),
                "files": files,
                "seconds": round(seconds, 3),
                "host": socket.gethostname(),
            },
        )
        _fsync(folder)
        folder.chmod(0o755)
        try:
            folder.rename(self._folder(stage, key))
        except OSError as error:
            # Another process published the same content first; content keys make the two equal.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        _fsync(self._folder(stage, key).parent)

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def _set_aside(self, folder: Path, stage: str, key: str) -> Path:
        damaged = self.root / "damaged"
        damaged.mkdir(parents=True, exist_ok=True)
        number = 1
        while (damaged / f"{stage}-{key}-{number}").exists():
            number += 1
        return folder.rename(damaged / f"{stage}-{key}-{number}")


def _damage(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> str | None:
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
        if _sha256(path) != expected["sha256"]:
            return f"{name} fails its checksum"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
