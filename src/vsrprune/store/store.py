"""Stage artifacts by content key: published whole or not at all, verified when read.

- STORE/<stage>/<key>/: manifest.json and files of a published artifact
- STORE/engines/<key>/: an artifact too, but of no stage: a network's ONNX graphs
- STORE/unfinished/<stage>-<key>/<token>/: checkpoints of a stage that is not finished
- STORE/leases/: who computes what right now
- STORE/damaged/<stage>-<key>-<n>/: an artifact whose checksum failed, set aside
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from vsrprune.store.atomic import fsync, read_json, write_json
from vsrprune.store.lease import Holder, Lease, changing, is_held, try_acquire
from vsrprune.store.sealed import checksum_of

MANIFEST, MANIFEST_SEAL = "manifest.json", "manifest_sha256"
ENGINES = "engines"
KEY = re.compile("[0-9a-f]{16}")
FORMAT = 2  # of manifests; raise it when a store of before can no longer be read


def content_key(settings: Mapping[str, Any]) -> str:
    """16 hex digits that depend on the settings' values, not on their order; floats count to 9 digits."""
    text = json.dumps(_canonical(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_key(value: object) -> TypeGuard[str]:
    """Whether it can be a content key. Keys from files are asked for this before they become part of a path."""
    return isinstance(value, str) and KEY.fullmatch(value) is not None


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.9g}")  # range(.3,.8,.2) yields 0.7000000000000001
    return value


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
        return read_json(self.path(name))

    @property
    def seconds(self) -> float:
        """How long it took to make."""
        return float(self.manifest["seconds"])


class Store:
    """A folder of artifacts, for any number of processes on any number of machines that share its file system."""

    wait_seconds = 0.5  # between looks at a stage that another process computes

    def __init__(
        self,
        root: Path,
        warn: Callable[[str], None],
        say: Callable[[str], None] = lambda text: None,
        lease_seconds: float = 60.0,
    ) -> None:
        self.root, self._warn, self._say, self._lease_seconds = root, warn, say, lease_seconds
        self.place = str(root)  # as a user names it

    def exists(self, stage: str, key: str) -> bool:
        """Whether the artifact is published; its content is not verified."""
        return (self._folder(stage, key) / MANIFEST).is_file()

    def is_held(self, name: str) -> bool:
        """Whether a living process computes the stage `<stage>-<key>` right now."""
        return is_held(self._leases / f"{name}.json", self._lease_seconds)

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact, or None if there is none; one that fails its checksums is set aside with a warning."""
        artifact, damage = self._read(stage, key)
        if damage is None:
            if artifact is not None:
                self._tidy(stage, key)
            return artifact
        # Verifying takes long and is done without the lock; only what looks damaged is read again under it.
        with changing(self._leases):
            artifact, damage = self._read(stage, key)  # another process may have mended it meanwhile
            if damage is None:
                return artifact
            aside = self._set_aside(stage, key)
        self._warn(f"{stage} {key} is damaged: {damage}; set aside in {aside}, it will be computed again")
        return None

    def _tidy(self, stage: str, key: str) -> None:
        """Remove the lease and the checkpoints of a process that died right after it had published."""
        lease = self._leases / f"{stage}-{key}.json"
        if not (lease.exists() or self._workdirs(stage, key).exists()):
            return
        with contextlib.suppress(OSError):  # a store that may only be read
            held = try_acquire(lease, self._lease_seconds)
            if isinstance(held, Lease):  # else its maker is alive and tidies up itself
                with held:
                    shutil.rmtree(self._workdirs(stage, key), ignore_errors=True)

    def _read(self, stage: str, key: str) -> tuple[Artifact | None, str | None]:
        """The artifact or a sentence on its damage; (None, None) if there is no artifact."""
        folder = self._folder(stage, key)
        if not folder.is_dir():
            return None, None
        try:
            manifest = read_json(folder / MANIFEST)
            if manifest.pop(MANIFEST_SEAL) != checksum_of(manifest):
                return None, f"{MANIFEST} fails its checksum"
            damage = damage_of(folder, manifest["files"])
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
            return None, f"{MANIFEST} cannot be read ({error})"
        return (None, damage) if damage else (Artifact(folder, manifest), None)

    def produce(
        self, stage: str, key: str, settings: Mapping[str, Any], make: Callable[[Path, Path], None]
    ) -> Artifact:
        """The artifact, computed here by `make(folder, workdir)` or by another process that does it already.

        `make` fills `folder` with the artifact's files; what it leaves in `workdir` outlives a crash and is there
        again for the next try. Only one process at a time computes a stage; the others wait for it.
        """
        waiting_for = ""
        while True:
            artifact = self.find(stage, key)
            if artifact is not None:
                return artifact
            held = try_acquire(self._leases / f"{stage}-{key}.json", self._lease_seconds)
            if isinstance(held, Holder):
                if held.token != waiting_for:
                    waiting_for = held.token
                    self._say(f"{stage} {key} is being computed by {held}; waiting for it")
                time.sleep(self.wait_seconds)
                continue
            with held:
                # Look again: the holder before may have published between the look above and the lease.
                artifact = self.find(stage, key) or self._compute(held, stage, key, settings, make)
            if artifact is not None:
                return artifact

    def _compute(
        self, lease: Lease, stage: str, key: str, settings: Mapping[str, Any], make: Callable[[Path, Path], None]
    ) -> Artifact | None:
        """Make and publish under the lease; None if the lease went to someone else meanwhile."""
        started = time.monotonic()
        parent = self._folder(stage, key).parent
        parent.mkdir(parents=True, exist_ok=True)
        for left_over in parent.glob(f".{key}-*"):  # half-made by a holder that is gone
            shutil.rmtree(left_over, ignore_errors=True)
        folder = parent / f".{key}-{lease.token}"  # on the same file system, so that publishing is one rename
        folder.mkdir()
        try:
            make(folder, self._adopt_workdir(stage, key, lease.token))
            manifest = _write_manifest(folder, stage, key, settings, time.monotonic() - started)
            mine = self._share(stage, key, folder)
            # Files, manifest and folder are on the disk by now; the rename publishes, and the last fsync keeps it.
            with lease.checked() as still:
                mine = mine and still
                if mine:
                    folder.rename(self._folder(stage, key))
                    fsync(parent)
        except Exception:
            # A holder that lost its lease fails on files that the new holder moved: that error means nothing.
            with lease.checked() as mine:
                if mine:
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # gone after a rename; else half-made
        if not mine:
            shutil.rmtree(self._workdirs(stage, key) / lease.token, ignore_errors=True)  # made anew since it woke
            with contextlib.suppress(OSError):  # in use, or gone
                self._workdirs(stage, key).rmdir()
            self._warn(f"{stage} {key} went to another process while this one was stalled; its result is used")
            return None
        shutil.rmtree(self._workdirs(stage, key), ignore_errors=True)
        return Artifact(self._folder(stage, key), manifest)

    def _share(self, stage: str, key: str, folder: Path) -> bool:
        """Send a finished artifact to where others look for it, before it is published here; whether it is the one.

        A folder is where others look.
        """
        return True

    def _adopt_workdir(self, stage: str, key: str, token: str) -> Path:
        """A working folder of this lease's own, with what an earlier holder left in its working folder.

        A stalled holder that wakes no longer finds its folder, so it cannot write into the new holder's work.
        """
        base = self._workdirs(stage, key)
        base.mkdir(parents=True, exist_ok=True)
        mine = base / token
        left = sorted(base.iterdir(), key=lambda path: path.stat().st_mtime)
        if left:
            left.pop().rename(mine)
        else:
            mine.mkdir()
        for older in left:
            shutil.rmtree(older, ignore_errors=True)
        return mine

    @property
    def _leases(self) -> Path:
        return self.root / "leases"

    def _workdirs(self, stage: str, key: str) -> Path:
        return self.root / "unfinished" / f"{stage}-{key}"

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def _set_aside(self, stage: str, key: str) -> Path:
        damaged = self.root / "damaged"
        damaged.mkdir(parents=True, exist_ok=True)
        number = 1
        while (damaged / f"{stage}-{key}-{number}").exists():
            number += 1
        return self._folder(stage, key).rename(damaged / f"{stage}-{key}-{number}")


def _write_manifest(folder: Path, stage: str, key: str, settings: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Bring all files of `folder` to disk and list them, with checksums, in manifest.json; return its content."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            fsync(path)
            files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    manifest = {
        "format": FORMAT,
        "stage": stage,
        "key": key,
        "settings": _canonical(settings),
        "files": files,
        "seconds": round(seconds, 3),
        "host": socket.gethostname(),
    }
    write_json(folder / MANIFEST, {MANIFEST_SEAL: checksum_of(manifest), **manifest})
    fsync(folder)
    return manifest


def damage_of(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> str | None:
    """A sentence on the first of the files that is not what the manifest says, or None."""
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
        if sha256(path) != expected["sha256"]:
            return f"{name} fails its checksum"
    return None


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
