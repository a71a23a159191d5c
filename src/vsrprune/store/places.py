"""Where a store is: a folder, or a URL in object storage with a folder of this machine for what is fetched."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from vsrprune.store.bucket import Bucket, check_url, is_url
from vsrprune.store.published import Published
from vsrprune.store.remote_store import RemoteStore, Terms
from vsrprune.store.store import Store

LONGEST_NAME = 60


def local_folder(place: str, cache_dir: str = "") -> Path:
    """The folder of a store on this machine: itself, or what keeps the fetched artifacts of one in object storage.

    cache_dir: the folder that holds one folder for each URL; empty: vsrprune/stores in the user's folder of caches.
    Raises UserError for a URL that is none.
    """
    if not is_url(place):
        return Path(place).expanduser()
    check_url("store_dir", place)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vsrprune" / "stores"
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", place.partition("://")[2])[:LONGEST_NAME].strip("-")
    # Two servers may each have a bucket of that name.
    told = f"{place.rstrip('/')} {os.environ.get('AWS_ENDPOINT_URL', '') if place.startswith('s3:') else ''}"
    return (Path(cache_dir).expanduser() if cache_dir else caches) / (
        f"{readable}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    )


def open_place(
    place: str | Path,
    warn: Callable[[str], None],
    say: Callable[[str], None] = lambda text: None,
    terms: Terms = Terms(),  # noqa: B008 (frozen)
    upstream: str = "",
    cache_dir: str = "",
) -> Store:
    """The store at a place. upstream: the URL of one that finished stages are taken from, and that is only read.

    Raises UserError where it cannot be one.
    """
    place = str(place)
    root = local_folder(place, cache_dir)
    own = Published(Bucket(place, say), warn) if is_url(place) else None
    above = Published(Bucket(upstream, say), warn, read_only=True) if upstream else None
    if own is None and above is None:
        return Store(root, warn, say, terms.lease_seconds)
    return RemoteStore(root, warn, say, terms, own, above)
