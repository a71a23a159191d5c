"""A store in object storage, through a folder of this machine that keeps what was fetched."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from vsrprune.errors import UserError
from vsrprune.store.atomic import fsync, read_json
from vsrprune.store.lease import Lease, changing
from vsrprune.store.mirror import Mirror, MirrorPace, mirrored
from vsrprune.store.published import Published
from vsrprune.store.remote_lease import RemoteLease, is_held_remotely, try_remote
from vsrprune.store.store import MANIFEST, Artifact, Store, is_key

USED = "in_use"  # the folder that says which processes use which artifacts
LOOK_SECONDS = 5.0  # between looks at a stage that another machine computes


@dataclass(frozen=True)
class Terms:
    """How long things hold: a lease and the time between two mirrored checkpoints in seconds, the cache in bytes."""

    lease_seconds: float = 60.0
    mirror_seconds: float = 300.0
    cache_bytes: float = 50e9


class RemoteStore(Store):
    """Artifacts of a bucket, and of one upstream that is only read; `root` keeps what was fetched or made here.

    Without a bucket of its own it is a folder with an upstream.
    """

    wait_seconds = 2.0  # every look asks the storage

    def __init__(
        self,
        root: Path,
        warn: Callable[[str], None],
        say: Callable[[str], None],
        terms: Terms,
        own: Published | None,
        upstream: Published | None = None,
    ) -> None:
        super().__init__(root, warn, say, terms.lease_seconds)
        self.own, self._terms = own, terms
        self.place = own.bucket.url if own else str(root)
        self._sources = [source for source in (own, upstream) if source is not None]
        self._held: dict[str, RemoteLease] = {}
        self._mirrors = contextlib.ExitStack()
        self._use: TextIO | None = None
        self._in_use: set[str] = set()

    @classmethod
    def of_folder(
        cls, root: Path, warn: Callable[[str], None], say: Callable[[str], None], upstream: Published
    ) -> RemoteStore:
        """A folder that takes finished stages from upstream."""
        return cls(root, warn, say, Terms(), None, upstream)

    def exists(self, stage: str, key: str) -> bool:
        """Whether the artifact is published; a copy here, of what somebody has deleted in the bucket, is not enough."""
        if self.own is None and super().exists(stage, key):
            return True
        return any(source.has(stage, key) for source in self._sources)

    def is_held(self, name: str) -> bool:
        """Whether a living process computes the stage `<stage>-<key>` right now, on whatever machine."""
        if super().is_held(name):
            return True
        return self.own is not None and is_held_remotely(self.own.bucket, _lease(name), self._lease_seconds)

    def find(self, stage: str, key: str) -> Artifact | None:
        """The artifact, fetched if it is not here; see `Store.find`.

        What is kept here, and somebody has deleted in the bucket, is sent there again.
        """
        self._mark_used(stage, key)
        artifact = super().find(stage, key)
        if artifact is None:
            if any(self._fetch(source, stage, key) for source in self._sources):
                artifact = super().find(stage, key)
                self._make_room()
        elif self.own is not None and not any(source.is_sent(stage, key) for source in self._sources):
            try:
                self.own.send(artifact.folder, stage, key)
            except UserError as error:  # who may only read has it all the same
                self._warn(f"{stage} {key} is kept here alone: {error}")
        return artifact

    def _fetch(self, source: Published, stage: str, key: str) -> bool:
        folder = self._folder(stage, key)
        arriving = folder.parent / f".arriving-{key}-{uuid.uuid4().hex}"
        arriving.mkdir(parents=True)
        try:
            if not source.fetch(stage, key, arriving):
                return False
            with contextlib.suppress(OSError):  # another process of this machine was quicker
                arriving.rename(folder)
            fsync(folder.parent)
            return True
        finally:
            shutil.rmtree(arriving, ignore_errors=True)

    def _compute(
        self, lease: Lease, stage: str, key: str, settings: Mapping[str, Any], make: Callable[[Path, Path], None]
    ) -> Artifact | None:
        if self.own is None:
            return super()._compute(lease, stage, key, settings, make)
        name, waiting_for = f"{stage}-{key}", ""
        while True:
            held = try_remote(self.own.bucket, _lease(name), self._lease_seconds)
            if isinstance(held, RemoteLease):
                break
            if held.token != waiting_for:
                waiting_for = held.token
                self._say(f"{stage} {key} is being computed by {held}; waiting for it")
            time.sleep(LOOK_SECONDS)
            artifact = self.find(stage, key)
            if artifact is not None:
                return artifact
        with held, self._working(name, held):
            # Look again: the holder before may have published between the look before and the lease.
            artifact = self.find(stage, key) or super()._compute(lease, stage, key, settings, make)
        if artifact is not None:
            with contextlib.suppress(OSError, UserError):  # published it is; store.action=clean takes these as well
                unfinished = self.own.bucket.names(_unfinished(name))
                self.own.bucket.delete([found for found, _, _ in unfinished])
            self._make_room()
        return artifact

    @contextlib.contextmanager
    def _working(self, name: str, lease: RemoteLease) -> Iterator[None]:
        self._held[name] = lease
        try:
            with contextlib.ExitStack() as self._mirrors:
                yield
        finally:
            del self._held[name]

    def _adopt_workdir(self, stage: str, key: str, token: str) -> Path:
        if self.own is None:
            return super()._adopt_workdir(stage, key, token)
        name = f"{stage}-{key}"
        known = mirrored(self.own.bucket, _unfinished(name), self._workdirs(stage, key))
        folder = super()._adopt_workdir(stage, key, token)
        pace, mine = MirrorPace(self._terms.mirror_seconds, self._warn), self._held[name].is_mine
        self._mirrors.enter_context(Mirror(self.own.bucket, _unfinished(name), folder, known, mine, pace))
        return folder

    def _share(self, stage: str, key: str, folder: Path) -> bool:
        if self.own is None:
            return True
        is_sent = self.own.send(folder, stage, key, self._held[f"{stage}-{key}"].is_mine)
        self._mirrors.close()  # the working folder is taken away next
        return is_sent

    def _mark_used(self, stage: str, key: str) -> None:
        """Say that this process uses an artifact, before it looks for it: nobody takes it away meanwhile."""
        name = f"{stage}/{key}"
        if self.own is None or name in self._in_use:
            return
        with changing(self._leases):
            if self._use is None:
                folder = self.root / USED
                folder.mkdir(exist_ok=True)
                # Open until the process ends, however it ends; by the lock others know that it lives.
                self._use = (folder / uuid.uuid4().hex).open("a")
                fcntl.flock(self._use, fcntl.LOCK_EX)
            self._use.write(f"{name}\n")
            self._use.flush()
        self._in_use.add(name)
        with contextlib.suppress(OSError):
            os.utime(self._folder(stage, key) / MANIFEST)

    def _make_room(self) -> None:
        """Take away what was not used for longest, until no more is kept than the cache may hold."""
        if self.own is None:
            return
        kept = []
        for manifest in self.root.glob(f"*/*/{MANIFEST}"):
            if is_key(manifest.parent.name):  # else it arrives, is being made, or was set aside
                with contextlib.suppress(FileNotFoundError):  # another process has just taken it away
                    kept.append((manifest.stat().st_mtime, manifest.parent, _bytes(manifest)))
        total = sum(size for _, _, size in kept)
        if total <= self._terms.cache_bytes:
            return
        gone = []
        with changing(self._leases):
            used = self._used()
            for _, folder, size in sorted(kept):
                if total <= self._terms.cache_bytes:
                    break
                if f"{folder.parent.name}/{folder.name}" not in used:
                    with contextlib.suppress(FileNotFoundError):
                        gone.append(folder.rename(folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")))
                    total -= size
        for folder in gone:
            shutil.rmtree(folder, ignore_errors=True)

    def _used(self) -> set[str]:
        """Artifacts that living processes use."""
        used: set[str] = set()
        for path in (self.root / USED).iterdir():
            with path.open() as stream:
                try:
                    if self._use is None or path.name != Path(self._use.name).name:
                        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                        path.unlink()  # of a process that has ended
                        continue
                except BlockingIOError:
                    pass
                used |= set(stream.read().split())
        return used


def _bytes(manifest: Path) -> int:
    """The size of an artifact, by its manifest; one that cannot be read counts as nothing."""
    try:
        return sum(int(entry["bytes"]) for entry in read_json(manifest)["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def _lease(name: str) -> str:
    return f"leases/{name}.json"


def _unfinished(name: str) -> str:
    return f"unfinished/{name}"
