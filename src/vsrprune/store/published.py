"""Artifacts in object storage: sent whole or not at all, and verified when they arrive.

- artifacts/<stage>/<key>.json: the manifest of a published artifact, and below which name its files lie
- files/<stage>/<key>/<token>/<name>: these files; those of a token that no manifest names are of an unfinished sending
- leases/<stage>-<key>.json: who computes what right now
- unfinished/<stage>-<key>/newest.json, unfinished/<stage>-<key>/<token>/<n>/<name>: mirrored checkpoints
- damaged/<stage>-<key>-<n>.json: the manifest of an artifact that arrived with a wrong checksum
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vsrprune.errors import UserError
from vsrprune.store.atomic import fsync, parse_json, read_json, write_json
from vsrprune.store.bucket import Bucket
from vsrprune.store.sealed import checksum_of
from vsrprune.store.store import FORMAT, MANIFEST, MANIFEST_SEAL, damage_of, is_key

LOOK_AGAIN = 2.0  # seconds after which what was not there is looked for again
SHARE_OF_LOOKING = 20  # a list of artifacts holds for so many times what it took


@dataclass(frozen=True)
class Sent:
    """A published artifact, as a list tells it: its size in bytes, and when it was published by the server's clock."""

    stage: str
    key: str
    size: int
    changed: datetime


class Published:
    """The artifacts of one bucket."""

    def __init__(self, bucket: Bucket, warn: Callable[[str], None], read_only: bool = False) -> None:
        self.bucket, self._warn, self._read_only = bucket, warn, read_only
        self._there: dict[str, set[str]] = {}
        self._looked: dict[str, tuple[float, float]] = {}  # stage: when it was looked at, and how long that holds

    def has(self, stage: str, key: str) -> bool:
        """Whether an artifact is published; what was not there a moment ago may be there only in the next."""
        began, holds = self._looked.get(stage, (0.0, 0.0))
        if key not in self._there.get(stage, ()) and time.monotonic() >= began + holds:
            began = time.monotonic()
            names = self.bucket.names(f"artifacts/{stage}")
            self._there[stage] = {name.rpartition("/")[2].removesuffix(".json") for name, _, _ in names}
            took = time.monotonic() - began
            self._looked[stage] = (began, max(LOOK_AGAIN, SHARE_OF_LOOKING * took))
        return key in self._there[stage]

    def is_sent(self, stage: str, key: str) -> bool:
        """Whether an artifact is published this moment, as far as nobody has removed what this process saw."""
        return key in self._there.get(stage, ()) or self.bucket.read(_manifest(stage, key)) is not None

    def send(self, folder: Path, stage: str, key: str, mine: Callable[[], bool] = lambda: True) -> bool:
        """Publish an artifact that lies in `folder`, its manifest included; False where another was quicker.

        mine: asked once more before the manifest, which publishes, is written.
        """
        manifest = read_json(folder / MANIFEST)
        token = uuid.uuid4().hex
        names = [f"files/{stage}/{key}/{token}/{name}" for name in manifest["files"]]
        for name, sent in zip(manifest["files"], names, strict=True):
            self.bucket.upload(sent, folder / name)
        content = json.dumps({"files": token, "manifest": manifest}, indent=1).encode()
        if mine() and self.bucket.create(_manifest(stage, key), content) is not None:
            self._there.setdefault(stage, set()).add(key)
            return True
        self.bucket.delete(names)
        return False

    def fetch(self, stage: str, key: str, to: Path) -> bool:
        """Bring an artifact to the new folder `to`; False where there is none, or none that is sound.

        A damaged one is set aside there, so that it is computed again; in a store that is only read, it is named.
        """
        sent = self.bucket.read(_manifest(stage, key))
        if sent is None:
            return False
        damage = self._arrive(sent.content, stage, key, to)
        if damage is None:
            return True
        shutil.rmtree(to, ignore_errors=True)
        damage = self._arrive(sent.content, stage, key, to)  # a bit may have flipped on the way
        if damage is None:
            return True
        if self._read_only:
            self._warn(f"{stage} {key} in {self.bucket.url} is damaged: {damage}; it is not taken from there")
        else:
            aside = self._set_aside(stage, key, sent.content)
            self._warn(f"{stage} {key} in {self.bucket.url} is damaged: {damage}; set aside as {aside}")
        return False

    def _arrive(self, sent: bytes, stage: str, key: str, to: Path) -> str | None:
        """Bring the files that a manifest names; a sentence on what is wrong with them, or None."""
        try:
            told = parse_json(sent.decode())
            manifest, token = told["manifest"], told["files"]
            values = {name: value for name, value in manifest.items() if name != MANIFEST_SEAL}
            if manifest[MANIFEST_SEAL] != checksum_of(values) or (values["stage"], values["key"]) != (stage, key):
                return f"{MANIFEST} fails its checksum"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"{MANIFEST} cannot be read ({error})"
        if values["format"] != FORMAT:
            raise UserError(
                f"{self.bucket.url} was written by another version of vsrprune, which this one cannot read; name"
                " another store_dir"
            )
        for name in values["files"]:
            path = to / name
            if not path.resolve().is_relative_to(to.resolve()):
                return f"{name} is no name of a file of an artifact"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self.bucket.download(f"files/{stage}/{key}/{token}/{name}", path):
                return f"{name} is missing"
        damage = damage_of(to, values["files"])
        if damage is None:
            for name in values["files"]:
                fsync(to / name)
            write_json(to / MANIFEST, manifest)
            fsync(to)
        return damage

    def _set_aside(self, stage: str, key: str, sent: bytes) -> str:
        number = 1
        while self.bucket.create(f"damaged/{stage}-{key}-{number}.json", sent) is None:
            number += 1
        now = self.bucket.read(_manifest(stage, key))
        if now is not None and now.content == sent:  # else another process has mended it meanwhile
            self.bucket.delete([_manifest(stage, key)])
        self._there.get(stage, set()).discard(key)
        return f"damaged/{stage}-{key}-{number}.json"

    def entries(self) -> list[Sent]:
        """All published artifacts, in the order of their names."""
        sizes: dict[tuple[str, ...], int] = {}
        for name, size, _ in self.bucket.names("files"):
            owner = tuple(name.split("/")[1:3])
            sizes[owner] = sizes.get(owner, 0) + size
        found = []
        for name, size, changed in sorted(self.bucket.names("artifacts")):
            owner = tuple(name.removesuffix(".json").split("/")[1:])
            if len(owner) == 2 and is_key(owner[1]):  # else somebody put it there
                found.append(Sent(*owner, size + sizes.get(owner, 0), changed))
        return found

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact: its manifest first, so that nobody finds a part of it."""
        self.bucket.delete([_manifest(stage, key)])
        self.bucket.delete([name for name, _, _ in self.bucket.names(f"files/{stage}/{key}")])
        self._there.get(stage, set()).discard(key)

    def left_over(self) -> list[str]:
        """Objects that nothing needs once no stage is under way: half-sent files, damage, checkpoints, leases."""
        tokens = {}
        for sent in self.entries():
            thing = self.bucket.read(_manifest(sent.stage, sent.key))
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a manifest that is none names no files
                tokens[sent.stage, sent.key] = parse_json(thing.content.decode())["files"] if thing else None
        found = []
        for name, _, _ in self.bucket.names("files"):
            parts = name.split("/")
            if len(parts) > 4 and tokens.get((parts[1], parts[2])) != parts[3]:
                found.append(name)
        for prefix in ("damaged", "unfinished", "clock", "leases", "stops"):
            found += [name for name, _, _ in self.bucket.names(prefix)]
        return found


def _manifest(stage: str, key: str) -> str:
    return f"artifacts/{stage}/{key}.json"
