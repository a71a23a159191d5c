"""The exclusive right to compute a stage among machines that share nothing but object storage.

A lease is an object that names its holder. The first to create it has it; the holder writes it anew at every beat,
and each write is a compare-and-swap on the ETag, so that a holder that was stalled and wakes cannot write over the next
one. A lease is free when it has not been written for its length, by the server's own dates; no machine's clock counts.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import asdict
from types import TracebackType
from typing import Any

from vsrprune.errors import UserError
from vsrprune.store.atomic import parse_json
from vsrprune.store.bucket import Bucket, Thing
from vsrprune.store.lease import BEATS, Holder, holder_of
from vsrprune.store.repeated import Repeated


class RemoteLease:
    """A held lease; a context manager that gives it back. A thread writes it anew meanwhile."""

    def __init__(self, bucket: Bucket, name: str, holder: Holder, e_tag: str, seconds: float) -> None:
        self._bucket, self._name, self.holder = bucket, name, holder
        self._e_tag: str | None = e_tag
        self._beat = 0
        self._writing = threading.Lock()
        self._beats = Repeated(seconds / BEATS, self._keep)

    @property
    def token(self) -> str:
        """A random text that no other lease has."""
        return self.holder.token

    def is_mine(self) -> bool:
        """Whether the lease is still this holder's; it is prolonged thereby."""
        with self._writing:
            if self._e_tag is not None:
                self._beat += 1
                content = _content(self.holder, self._beat)
                self._e_tag = self._bucket.replace(self._name, content, self._e_tag)
                there = self._bucket.read(self._name) if self._e_tag is None else None
                if there is not None and _named(there) == self.holder:  # by an earlier beat whose answer never came
                    self._e_tag = self._bucket.replace(self._name, content, there.e_tag)
            return self._e_tag is not None

    def _keep(self) -> bool:
        try:
            return self.is_mine()
        except (OSError, UserError):
            return True  # a beat that fails is a beat missed: the lease ends if all do

    def __enter__(self) -> RemoteLease:
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._beats.end()
        # Nothing can be deleted on a condition everywhere; so the lease is first made nobody's by one, and whoever
        # takes it after that finds what was published, or goes on with the work.
        # Where the storage does not answer, the lease ends by itself, and what the work came to is not hidden by that.
        with self._writing, contextlib.suppress(OSError, UserError):
            if self._e_tag is not None:
                self._bucket.replace(self._name, FREE + self.token.encode(), self._e_tag)


FREE = b"nobody's since "


def try_remote(bucket: Bucket, name: str, seconds: float) -> RemoteLease | Holder:
    """The lease `name`, or the holder that has it. Never waits for another holder."""
    mine = Holder.this_process()
    while True:
        there = bucket.read(name)
        if there is None:
            e_tag = bucket.create(name, _content(mine, 0))
        else:
            holder = _holder(bucket, there, seconds)
            if holder is not None:
                return holder
            e_tag = bucket.replace(name, _content(mine, 0), there.e_tag)
        if e_tag is not None:
            return RemoteLease(bucket, name, mine, e_tag, seconds)
        # Another was quicker: look who.


def is_held_remotely(bucket: Bucket, name: str, seconds: float) -> bool:
    """Whether someone holds the lease and has not lost it."""
    there = bucket.read(name)
    return there is not None and _holder(bucket, there, seconds) is not None


def _holder(bucket: Bucket, lease: Thing, seconds: float) -> Holder | None:
    holder = _named(lease)
    if holder is None or holder.is_dead:
        return None
    return holder if abs((bucket.now() - lease.changed).total_seconds()) < seconds else None


def _named(lease: Thing) -> Holder | None:
    """The holder that a lease names; None where it is nobody's."""
    try:
        values: Any = parse_json(lease.content.decode())
        values.pop("beat")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return holder_of(values)


def _content(holder: Holder, beat: int) -> bytes:
    return json.dumps({**asdict(holder), "beat": beat}).encode()
