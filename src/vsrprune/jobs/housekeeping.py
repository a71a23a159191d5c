"""`store.action=list|verify|clean`: what the store holds, whether it is sound, and what no result needs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.data.cache_folder import ASIDE, CLIPS, Verified, cached_folders, put_aside, verify
from vsrprune.data.sources import HASHES, are_hashes_whole
from vsrprune.errors import UserError
from vsrprune.host.progress import readable_time
from vsrprune.results.result import RESULT
from vsrprune.stages.graph import RECIPES
from vsrprune.store.atomic import left_by_writers, read_json
from vsrprune.store.store import ENGINES, Store

KINDS = (*RECIPES, ENGINES)  # no result needs the graphs of engines: whoever wants them writes them again


@dataclass(frozen=True)
class Entry:
    """A published artifact: its size in bytes, its age in seconds."""

    stage: str
    key: str
    folder: Path
    size: int
    age: float


def entries(store: Store) -> Iterator[Entry]:
    """All published artifacts, stage by stage."""
    now = time.time()
    for stage in KINDS:
        for folder in sorted((store.root / stage).glob("[!.]*/")):  # one without a manifest too: it is damaged
            yield Entry(stage, folder.name, folder, _size(folder), now - folder.stat().st_mtime)


def list_store(store: Store, runs: Path, console: Console) -> None:
    """Print a line per artifact and the totals."""
    found = ((entry.stage, entry.key, entry.size, entry.age) for entry in entries(store))
    print_artifacts(found, store.place, runs, console)


def print_artifacts(found: Iterable[tuple[str, str, int, float]], place: str, runs: Path, console: Console) -> None:
    """Print a line per artifact (its stage, key, size in bytes, age in seconds) and the totals of the store there."""
    needed, total = needed_keys(runs), 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("stage", "key", "size", "age", "needed"):
        table.add_column(heading, justify="right" if heading in ("size", "age") else "left")
    for stage, key, size, age in found:
        total += size
        table.add_row(
            stage, key, readable_size(size), readable_time(max(0.0, age)), "by a result" if key in needed else ""
        )
    console.print(table)
    console.print(f"{table.row_count} artifacts, {readable_size(total)} in {place}", highlight=False)


def verify_store(store: Store, console: Console) -> bool:
    """Check every checksum; damaged artifacts are set aside and named. Whether all are sound."""
    checked = [(entry, store.find(entry.stage, entry.key)) for entry in entries(store)]
    damaged = [entry for entry, artifact in checked if artifact is None]
    console.print(f"{len(checked)} artifacts checked, {len(damaged)} damaged", highlight=False)
    return not damaged


def verify_caches(cache: Path, hashes: Path, console: Console) -> bool:
    """Check cached clips and the hashes of files; damaged clips are set aside. Whether all are sound."""
    checked = {folder: verify(folder) for folder in cached_folders(cache)}
    damaged = {folder: found for folder, found in checked.items() if not isinstance(found, Verified)}
    for folder, damage in damaged.items():
        console.print(f"warning: {folder} is damaged: {damage}; set aside in {put_aside(folder)}", highlight=False)
    if checked:
        console.print(f"{len(checked)} cached clips checked, {len(damaged)} damaged", highlight=False)
    whole = are_hashes_whole(hashes)
    if not whole:
        console.print(f"warning: {hashes} is damaged; the next job makes it again", highlight=False)
    return whole and not damaged


def clean_store(store: Store, runs: Path, sure: bool, console: Console, cache: Path | None = None) -> None:
    """Delete what no result below `runs` needs, damaged artifacts and work that nobody goes on with.

    Of the clips in `cache` only damaged and half-made ones go: to decode the others again takes hours.

    Without `sure` it only shows what would go. Raises UserError where `runs` holds no result (a mistyped folder would
    cost everything) and while any stage is being computed (its job has no result yet).
    """
    needed = needed_to_clean(runs)
    busy = [path.stem for path in (store.root / "leases").glob("*.json") if store.is_held(path.stem)]
    if busy:
        raise UserError(f"{busy[0]} is being computed right now; clean the store when no job is running")
    gone = [entry.folder for entry in entries(store) if entry.key not in needed]
    gone += [path for stage in KINDS for path in sorted((store.root / stage).glob(".*"))]  # half-made
    gone += sorted((store.root / "damaged").glob("*"))
    gone += sorted((store.root / "unfinished").glob("*"))
    if cache:
        gone += [*sorted(cache.glob(".*")), *sorted((cache / ASIDE).glob("*"))]
    below = [folder for folder in runs.rglob("*/") if not folder.is_symlink()]  # runs/latest is there by its own name
    folders = (runs, *below, store.root, store.root / "networks")
    left = [path for folder in folders for path in left_by_writers(folder)]
    size = sum(map(_size, gone)) + sum(path.stat().st_size for path in left)
    for path in gone:
        shown = path.relative_to(store.root) if path.is_relative_to(store.root) else path
        console.print(f"{readable_size(_size(path)):>9}  {shown}", highlight=False)
    for path in left:
        console.print(f"{readable_size(path.stat().st_size):>9}  {path}", highlight=False)
    if not sure:
        console.print(
            f"{len(gone)} folders, {readable_size(size)}, needed by no result in {runs}. Nothing was deleted: add"
            " store.yes=true",
            highlight=False,
        )
        return
    for path in gone:
        aside = path.rename(path.with_name(f".{path.name}-deleted"))  # at once, for whoever reads meanwhile
        shutil.rmtree(aside)
    for path in left:
        path.unlink(missing_ok=True)
    console.print(f"{len(gone)} folders deleted, {readable_size(size)} freed", highlight=False)


def manage_store(
    action: str, store: Store, runs: Path, sure: bool, console: Console, cache: Path | None = None
) -> bool:
    """Do what `store.action` names; whether the store is sound as far as it was looked at.

    cache: the folder of decoded clips; None for the store's own. Raises UserError where there is no store.
    """
    if not store.root.is_dir():
        raise UserError(f"store_dir={store.root}: there is no such folder, and so nothing to {action}")
    cache = cache or store.root / CLIPS
    if action == "verify":
        sound = verify_store(store, console)
        return verify_caches(cache, store.root / HASHES, console) and sound
    if action == "list":
        list_store(store, runs, console)
    else:
        clean_store(store, runs, sure, console, cache)
    return True


def readable_size(size: float) -> str:
    """Bytes with a unit, three digits at most before it."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def needed_to_clean(runs: Path) -> set[str]:
    """What `needed_keys` gives; raises UserError where that is nothing, and everything would go."""
    needed = needed_keys(runs)
    if not needed:
        raise UserError(f"runs_dir={runs} holds no result, so everything would go; name the folder of your runs")
    return needed


def needed_keys(runs: Path) -> set[str]:
    """Keys of all stages that some result.json names."""
    keys: set[str] = set()
    for path in runs.rglob(RESULT):
        try:
            keys |= set(read_json(path)["stages"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Passing over a damaged result would let clean_store delete what it needs.
            raise UserError(f"{path} is damaged ({error}); delete it or run its job again") from error
    return keys


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
