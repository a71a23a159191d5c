"""Looking after a store in object storage: what is listed, kept and deleted, and who may only read."""

import json

import pytest
from rich.console import Console

from vsrprune.config.store import StoreConfig
from vsrprune.errors import UserError
from vsrprune.jobs.remote_housekeeping import manage_remote, move
from vsrprune.results.result import RESULT
from vsrprune.store.places import open_place

NEEDED, OTHER = "0" * 16, "f" * 16


@pytest.fixture
def console():
    return Console(record=True, width=1000)


@pytest.fixture
def store(tmp_path):
    """Two published artifacts, of which a result needs one, and a lease and half of a sending that are left over."""
    opened = open_place(f"file://{tmp_path}/remote", print, cache_dir=str(tmp_path / "cache"))
    for key in (NEEDED, OTHER):
        opened.produce("select", key, {}, lambda folder, work: (folder / "values.json").write_text("1"))
    opened.own.bucket.write(f"files/select/{NEEDED}/half/values.json", b"")
    return opened


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "runs" / "job").mkdir(parents=True)
    (tmp_path / "runs" / "job" / RESULT).write_text(json.dumps({"stages": {"select": NEEDED}}))
    return tmp_path / "runs"


def test_who_may_only_read_may_list(store, runs, console, monkeypatch):
    def refused(*arguments, **named):
        raise UserError("the storage does not allow this")

    for name in ("write", "create", "replace", "upload", "delete"):
        monkeypatch.setattr(store.own.bucket, name, refused)
    assert manage_remote(StoreConfig(action="list"), store, runs, console)
    lines = console.export_text().splitlines()
    assert ["by a result" in line for line in lines if NEEDED in line or OTHER in line] == [True, False]


def test_cleaning_deletes_what_no_result_needs_once_it_is_asked_to(store, runs, console):
    before = store.own.bucket.names("")
    assert manage_remote(StoreConfig(action="clean"), store, runs, console)
    assert store.own.bucket.names("") == before
    assert manage_remote(StoreConfig(action="clean", yes=True), store, runs, console)
    left = [name.split("/") for name, _, _ in store.own.bucket.names("")]
    assert sorted(parts[:2] for parts in left) == [["artifacts", "select"], ["files", "select"]]
    assert store.find("select", NEEDED) is not None
    assert not store.exists("select", OTHER)


def test_damage_is_found_and_set_aside(store, runs, console):
    name = next(name for name, _, _ in store.own.bucket.names(f"files/select/{OTHER}"))
    store.own.bucket.write(name, b"2")
    assert not manage_remote(StoreConfig(action="verify"), store, runs, console)
    assert manage_remote(StoreConfig(action="verify"), store, runs, console)
    assert [sent.key for sent in store.own.entries()] == [NEEDED]


def test_what_is_pushed_is_pulled_elsewhere_and_moves_once(store, tmp_path, console):
    remote, there = f"file://{tmp_path}/other", open_place(tmp_path / "there", print)
    for _ in range(2):
        move(StoreConfig(action="push", remote=remote), open_place(store.root, print), console)
        move(StoreConfig(action="pull", remote=remote, only=[OTHER]), there, console)
    assert there.find("select", OTHER) is not None
    assert not there.exists("select", NEEDED)
    told = [line for line in console.export_text().splitlines() if "were there already" in line]
    assert [line.split()[0] for line in told] == ["2", "1", "0", "0"]
