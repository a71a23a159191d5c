"""`store.action` on a store in object storage, and what moves between one and a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from vsrprune.config.store import StoreConfig, check_only
from vsrprune.errors import UserError
from vsrprune.jobs.housekeeping import KINDS, entries, needed_to_clean, print_artifacts, readable_size
from vsrprune.store.bucket import Bucket
from vsrprune.store.published import Published
from vsrprune.store.remote_store import RemoteStore
from vsrprune.store.store import Store


def manage_remote(asked: StoreConfig, store: RemoteStore, runs: Path, console: Console) -> bool:
    """Do what `store.action` names to a store in object storage; whether it is sound as far as it was looked at."""
    assert store.own is not None
    if asked.action == "list":
        _list(store.own, runs, console)
    elif asked.action == "verify":
        return _verify(store.own, store.root, console)
    else:
        _clean(store.own, store, runs, asked.yes, console)
    return True


def _list(own: Published, runs: Path, console: Console) -> None:
    now = datetime.now(UTC)  # by this machine's clock: to ask the storage's is to write, and who may only read may list
    found = ((sent.stage, sent.key, sent.size, (now - sent.changed).total_seconds()) for sent in own.entries())
    print_artifacts(found, own.bucket.url, runs, console)


def _verify(own: Published, root: Path, console: Console) -> bool:
    """Fetch every artifact and check it; damaged ones are set aside there, and named."""
    found, damaged = own.entries(), 0
    root.mkdir(parents=True, exist_ok=True)
    for entry in found:
        with tempfile.TemporaryDirectory(prefix=".verified-", dir=root) as folder:
            damaged += not own.fetch(entry.stage, entry.key, Path(folder) / entry.key)
    console.print(f"{len(found)} artifacts fetched and checked, {damaged} damaged", highlight=False)
    return not damaged


def _clean(own: Published, store: RemoteStore, runs: Path, sure: bool, console: Console) -> None:
    needed = needed_to_clean(runs)
    held = [name.removeprefix("leases/").removesuffix(".json") for name, _, _ in own.bucket.names("leases")]
    busy = [name for name in held if store.is_held(name)]
    if busy:
        raise UserError(f"{busy[0]} is being computed right now; clean the store when no job is running")
    gone = [entry for entry in own.entries() if entry.key not in needed]
    left = own.left_over()
    for entry in gone:
        console.print(f"{readable_size(entry.size):>9}  {entry.stage}/{entry.key}", highlight=False)
    size = readable_size(sum(entry.size for entry in gone))
    what = f"{len(gone)} artifacts, {size}, that no result in {runs} needs, and {len(left)} objects that are left over"
    if not sure:
        console.print(
            f"{what}. What results elsewhere need, of other people or machines, is not known here. Nothing was deleted:"
            " add store.yes=true",
            highlight=False,
        )
        return
    for entry in gone:
        own.remove(entry.stage, entry.key)
        shutil.rmtree(store.root / entry.stage / entry.key, ignore_errors=True)
    own.bucket.delete(left)
    console.print(f"deleted {what}", highlight=False)


def move(asked: StoreConfig, store: Store, console: Console) -> None:
    """Push finished stages of a folder to object storage, or pull them from there; what is there already stays.

    Raises UserError for names in `store.only` that neither side knows.
    """
    check_only(asked.only, KINDS)
    if asked.action == "push" and not store.root.is_dir():
        raise UserError(f"store_dir={store.root}: there is no such folder, and so nothing to push")

    def say(text: str) -> None:
        console.print(text, highlight=False)

    def warn(text: str) -> None:
        say(f"warning: {text}")

    other = Published(Bucket(asked.remote, say), warn, read_only=asked.action == "pull")
    here = [(entry.stage, entry.key, entry.size) for entry in entries(store)]
    there = [(entry.stage, entry.key, entry.size) for entry in other.entries()]
    source, target = (here, there) if asked.action == "push" else (there, here)
    wanted = [item for item in source if not asked.only or item[0] in asked.only or item[1] in asked.only]
    _check_known(asked.only, source)
    have = {item[:2] for item in target}
    reader = RemoteStore.of_folder(store.root, warn, say, other)
    moved, damaged, size = 0, 0, 0
    for number, (stage, key, bytes_) in enumerate(wanted, start=1):
        if (stage, key) in have:
            continue
        artifact = (store if asked.action == "push" else reader).find(stage, key)
        if artifact is None:
            damaged += 1
            continue
        if asked.action == "push":
            other.send(artifact.folder, stage, key)
        moved, size = moved + 1, size + bytes_
        say(f"{number} of {len(wanted)}: {stage} {key}, {readable_size(bytes_)}")
    word = "pushed to" if asked.action == "push" else "pulled from"
    kept = len(wanted) - moved - damaged
    ending = f"; {damaged} damaged, which were left" if damaged else ""
    say(f"{moved} artifacts, {readable_size(size)}, {word} {asked.remote}; {kept} were there already{ending}")


def _check_known(only: Sequence[str], source: Sequence[tuple[str, str, int]]) -> None:
    known = {name for stage, key, _ in source for name in (stage, key)}
    for name in only:
        if name not in known:
            raise UserError(f"store.only: {name} is not there; store.action=list shows what a store holds")
