"""What the store holds, whether it is sound, and what may go."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from vsrprune.data.cache_folder import write_description
from vsrprune.errors import UserError
from vsrprune.jobs.housekeeping import (
    clean_store,
    entries,
    list_store,
    manage_store,
    readable_size,
    readable_time,
    verify_store,
)
from vsrprune.store.lease import Lease, try_acquire
from vsrprune.store.store import ENGINES, Store

TRAINING = {
    "stage": "pretrain",
    "schedule.batch": 2,
    "schedule.frames": 3,
    "schedule.patch": 8,
    "schedule.pretrain.steps": 10,
}


def make(folder: Path, work: Path) -> None:
    (folder / "weights").write_bytes(b"x" * 5000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", lambda text: None)
    for stage, key in (("pretrain", "a" * 16), ("finetune", "b" * 16), ("finetune", "c" * 16)):
        store.produce(stage, key, TRAINING, make)
    (tmp_path / "runs" / "sweep" / "job").mkdir(parents=True)
    result = {"stages": {"pretrain": "a" * 16, "finetune": "b" * 16}}
    (tmp_path / "runs" / "sweep" / "job" / "result.json").write_text(json.dumps(result))
    return store


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def keys(store: Store) -> list[str]:
    return [entry.key[0] for entry in entries(store)]


def test_list_shows_every_artifact_and_what_needs_it(store: Store, tmp_path: Path, console: Console) -> None:
    list_store(store, tmp_path / "runs", console)
    lines = [line for line in printed(console).splitlines() if "KB" in line]
    assert len(lines) == 4
    assert [("by a result" in line) for line in lines[:3]] == [True, True, False]
    assert "3 artifacts" in lines[3]


def test_clean_shows_first_and_deletes_only_when_told(store: Store, tmp_path: Path, console: Console) -> None:
    clean_store(store, tmp_path / "runs", False, console)
    assert "Nothing was deleted" in " ".join(printed(console).split())
    assert keys(store) == ["a", "b", "c"]
    clean_store(store, tmp_path / "runs", True, console)
    assert keys(store) == ["a", "b"]
    assert "1 folders deleted" in printed(console)


def test_graphs_of_engines_are_listed_verified_and_may_go(store: Store, tmp_path: Path, console: Console) -> None:
    graphs = store.produce(ENGINES, "d" * 16, {}, make)
    assert keys(store) == ["a", "b", "c", "d"]
    graphs.path("weights").write_bytes(b"y" * 5000)
    assert not verify_store(store, console)
    store.produce(ENGINES, "d" * 16, {}, make)
    clean_store(store, tmp_path / "runs", True, console)
    assert keys(store) == ["a", "b"]


def test_clean_takes_abandoned_work(store: Store, tmp_path: Path, console: Console) -> None:
    (store.root / "unfinished" / "pretrain-dead" / "token").mkdir(parents=True)
    clean_store(store, tmp_path / "runs", True, console)
    assert list((store.root / "unfinished").iterdir()) == []


def test_clean_takes_what_killed_writers_left_beside_results(store: Store, tmp_path: Path, console: Console) -> None:
    job = next((tmp_path / "runs").rglob("result.json")).parent
    left, written, other = (job / name for name in (f".state.json-{'0' * 32}", f".x.json-{'1' * 32}", ".hidden"))
    for path in (left, written, other):
        path.write_text("{")
    os.utime(left, (0, 0))
    os.utime(other, (0, 0))
    clean_store(store, tmp_path / "runs", False, console)
    assert left.is_file()
    clean_store(store, tmp_path / "runs", True, console)
    assert [path.exists() for path in (left, written, other)] == [False, True, True]


def test_clean_refuses_while_a_stage_is_computed(store: Store, tmp_path: Path, console: Console) -> None:
    """A job under way has no result yet, so nothing tells which artifacts it needs."""
    held = try_acquire(store.root / "leases" / "pretrain-alive.json", 60)
    assert isinstance(held, Lease)
    with held, pytest.raises(UserError, match="pretrain-alive is being computed right now"):
        clean_store(store, tmp_path / "runs", True, console)
    assert keys(store) == ["a", "b", "c"]


def test_clean_refuses_a_folder_without_results(store: Store, tmp_path: Path, console: Console) -> None:
    with pytest.raises(UserError, match="holds no result"):
        clean_store(store, tmp_path / "mistyped", True, console)
    assert keys(store) == ["a", "b", "c"]


def test_verify_finds_a_flipped_bit(store: Store, console: Console) -> None:
    assert verify_store(store, console)
    weights = store.root / "finetune" / ("b" * 16) / "weights"
    weights.write_bytes(b"y" + weights.read_bytes()[1:])
    assert not verify_store(store, console)
    assert "3 artifacts checked, 1 damaged" in printed(console)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two sound clips, one set aside, one half-made."""
    cache = tmp_path / "clips"
    for name in ("walk", "run", "damaged/old", ".half"):
        (cache / name).mkdir(parents=True)
        (cache / name / "high.npy").write_bytes(b"pixels")
        write_description(cache / name, name, {"high.npy": (1, 3, 1, 2)}, [])
    return cache


def test_verify_reads_every_cached_clip(store: Store, cache: Path, tmp_path: Path, console: Console) -> None:
    def is_sound() -> bool:
        return manage_store("verify", store, tmp_path / "runs", False, console, cache)

    assert is_sound()
    assert "2 cached clips checked, 0 damaged" in printed(console)
    (cache / "run" / "high.npy").write_bytes(b"pixelz")
    assert not is_sound()
    assert "2 cached clips checked, 1 damaged" in printed(console)
    assert len(list((cache / "damaged").iterdir())) == 2
    assert is_sound()


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, '{"sha256": "0", "hashes": {"a|1|2": "b"}}'])
def test_verify_reads_the_hashes_of_files(content: str, store: Store, tmp_path: Path, console: Console) -> None:
    (store.root / "data_hashes.json").write_text(content)
    assert not manage_store("verify", store, tmp_path / "runs", False, console)
    assert "data_hashes.json is damaged" in " ".join(printed(console).split())


def test_clean_takes_damaged_and_half_made_clips_alone(
    store: Store, cache: Path, tmp_path: Path, console: Console
) -> None:
    manage_store("clean", store, tmp_path / "runs", True, console, cache)
    assert sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_dir()) == [
        "damaged",
        "run",
        "walk",
    ]


@pytest.mark.parametrize(("action", "word"), [("list", "needed"), ("verify", "checked"), ("clean", "Nothing was")])
def test_every_action_does_its_own(action: str, word: str, store: Store, tmp_path: Path, console: Console) -> None:
    assert manage_store(action, store, tmp_path / "runs", False, console)
    assert word in printed(console)


def test_numbers_are_readable() -> None:
    assert [readable_size(size) for size in (0, 999, 1500, 2.5e6, 3e9, 4e12)] == [
        "0 B", "999 B", "1.5 KB", "2.5 MB", "3.0 GB", "4.0 TB",
    ]  # fmt: skip
    assert [readable_time(seconds) for seconds in (5, 90, 7200, 200_000)] == ["5 s", "2 min", "2 h", "2 d"]
