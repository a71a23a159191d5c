"""What goes wrong on this machine, and in a bucket that others write to: no work is lost, nothing sound is blamed."""

import contextlib
import errno
import threading
from pathlib import Path

import pytest

from vsrprune.errors import UserError
from vsrprune.store import mirror, remote_store
from vsrprune.store.bucket import Bucket
from vsrprune.store.mirror import NEWEST, mirrored
from vsrprune.store.places import open_place
from vsrprune.store.published import Published
from vsrprune.store.store import MANIFEST

KEYS = [f"{number:016x}" for number in range(4)]


@pytest.fixture
def url(tmp_path):
    """None of this depends on the storage."""
    return f"file://{tmp_path}/remote"


def make(folder, work):
    (folder / "values.json").write_text('{"psnr": 31.5}')


def full_machine(machine):
    """A process whose cache is full, and that has fetched what it needs."""
    machine("elsewhere").produce("select", KEYS[0], {}, make)
    full = machine("a", cache_bytes=1)
    full.find("select", KEYS[0])
    return full


def test_what_is_being_sent_is_not_taken_away_by_a_full_cache(machine, monkeypatch):
    maker, full = machine("a"), full_machine(machine)
    send = maker.own.send

    def meanwhile(*arguments):
        full._make_room()
        return send(*arguments)

    monkeypatch.setattr(maker.own, "send", meanwhile)
    made = maker.produce("select", KEYS[1], {}, make)
    assert made.json("values.json") == {"psnr": 31.5}


def test_what_arrives_is_not_taken_away_by_a_full_cache(machine, monkeypatch):
    reader, full = machine("a"), full_machine(machine)
    machine("elsewhere").produce("select", KEYS[1], {}, make)
    fetch = reader.own.fetch

    def meanwhile(*arguments):
        arrived = fetch(*arguments)
        full._make_room()
        return arrived

    monkeypatch.setattr(reader.own, "fetch", meanwhile)
    assert reader.find("select", KEYS[1]) is not None


def test_two_processes_may_make_room_at_the_same_time(machine, monkeypatch, tmp_path):
    for key in KEYS:
        ended = machine("a")
        ended.produce("select", key, {}, make)
        ended._use.close()
    first, second, changing, met = machine("a", cache_bytes=1), machine("a", cache_bytes=1), remote_store.changing, []
    first._mark_used("prune", KEYS[0])
    second._mark_used("prune", KEYS[0])

    @contextlib.contextmanager
    def later(folder):
        if not met:
            met.append(folder)
            second._make_room()
        with changing(folder) as now:
            yield now

    monkeypatch.setattr(remote_store, "changing", later)
    first._make_room()
    assert met
    assert not list((tmp_path / "a").glob(f"*/select/*/{MANIFEST}"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.ENOENT])
def test_an_error_of_this_disk_is_not_blamed_on_the_storage(machine, monkeypatch, bucket, code):
    machine("a").produce("select", KEYS[0], {}, make)
    before, opened = bucket.names("artifacts"), Path.open

    def failing(path, mode="r", *arguments, **named):
        if mode == "wb":
            raise OSError(code, "of this disk", str(path))
        return opened(path, mode, *arguments, **named)

    reader = machine("b")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", failing)
        with pytest.raises(OSError, match=r"of this disk: '.*/values.json'"):
            reader.find("select", KEYS[0])
    assert bucket.names("artifacts") == before
    assert reader.find("select", KEYS[0]) is not None


def test_what_is_published_is_there_though_the_storage_falls_silent_right_after(machine, monkeypatch):
    store = machine("a")
    send = store.own.send

    def silent(*arguments):
        raise UserError("the storage does not answer")

    def then_silence(*arguments):
        sent = send(*arguments)
        monkeypatch.setattr(store.own.bucket, "names", silent)
        monkeypatch.setattr(store.own.bucket, "replace", silent)
        return sent

    monkeypatch.setattr(store.own, "send", then_silence)
    assert store.produce("select", KEYS[0], {}, make).json("values.json") == {"psnr": 31.5}
    monkeypatch.undo()
    assert machine("b").find("select", KEYS[0]) is not None


def test_what_somebody_deleted_in_the_bucket_is_sent_again_by_who_still_has_it(machine):
    machine("a").produce("select", KEYS[0], {}, make)
    machine("b").own.remove("select", KEYS[0])
    again = machine("a")
    assert not again.exists("select", KEYS[0])  # so that a sweep runs the job again
    again.produce("select", KEYS[0], {}, lambda folder, work: pytest.fail("it was computed twice"))
    assert again.exists("select", KEYS[0])
    assert machine("b").find("select", KEYS[0]) is not None


def test_what_was_taken_from_upstream_is_not_sent_to_ones_own_bucket(machine, url, tmp_path, said):
    machine("a").produce("select", KEYS[0], {}, make)
    for _ in range(2):
        mine = open_place(
            f"file://{tmp_path}/mine", said.append, said.append, upstream=url, cache_dir=str(tmp_path / "c")
        )
        assert mine.produce("select", KEYS[0], {}, make).json("values.json") == {"psnr": 31.5}
    assert mine.own.bucket.names("artifacts") == []


def test_nothing_is_said_of_checkpoints_that_a_finished_stage_needs_no_more(machine, said):
    def with_checkpoints(folder, work):
        for step in range(20):
            (work / f"step-{step}").write_bytes(bytes(10_000))
        make(folder, work)

    for key in KEYS:
        machine("a", mirror_seconds=0.001).produce("finetune", key, {}, with_checkpoints)
    assert said == []


def test_what_grows_while_it_is_sent_keeps_nothing_else_from_being_mirrored(machine, monkeypatch, bucket, said):
    """Rows of losses do, all the time."""
    upload = Bucket.upload

    def silent(self, name, path):
        raise UserError("the storage does not answer")

    def slowly(self, name, path):
        threading.Event().wait(0.03)
        upload(self, name, path)

    def killed(folder, work):
        (work / "step-1").write_text("a checkpoint")
        with (work / "metrics.jsonl").open("w", buffering=1) as rows:
            for row in range(60):
                rows.write(f"{row}\n")
                threading.Event().wait(0.01)
        assert said == []
        monkeypatch.setattr(Bucket, "upload", silent)  # the machine goes: nothing more arrives
        raise RuntimeError("killed")

    monkeypatch.setattr(Bucket, "upload", slowly)
    with pytest.raises(RuntimeError, match="killed"):
        machine("a", mirror_seconds=0.02).produce("finetune", KEYS[0], {}, killed)
    monkeypatch.undo()

    def gone_on_with(folder, work):
        assert (work / "step-1").read_text() == "a checkpoint"
        rows = (work / "metrics.jsonl").read_text().split()
        assert 0 < len(rows) <= 60
        assert rows == [str(row) for row in range(len(rows))]
        make(folder, work)

    machine("b").produce("finetune", KEYS[0], {}, gone_on_with)
    assert bucket.names("unfinished") == []


def test_a_checkpoint_is_read_once_for_the_mirror_while_rows_grow(machine, monkeypatch):
    copied, copy = [], mirror._copied

    def counted(path, to):
        copied.append(path.name)
        return copy(path, to)

    def run(folder, work):
        (work / "step-1").write_text("a checkpoint")
        for row in range(10):
            (work / "metrics.jsonl").write_text(str(row) * (row + 1))
            threading.Event().wait(0.05)
        make(folder, work)

    monkeypatch.setattr(mirror, "_copied", counted)
    machine("a", mirror_seconds=0.02).produce("finetune", KEYS[0], {}, run)
    # Twice where it was written in the middle of the first try.
    assert copied.count("step-1") <= 2 < copied.count("metrics.jsonl")


def test_what_cannot_be_sent_leaves_nothing_in_the_bucket_that_no_list_names(machine, monkeypatch, bucket, said):
    upload, sent = Bucket.upload, []

    def once(self, name, path):
        if sent:
            raise UserError("the storage does not answer")
        sent.append(name)
        upload(self, name, path)

    def cut_off(folder, work):
        for step in range(2):
            (work / f"step-{step}").write_text(str(step))
        raise RuntimeError("cut off")

    monkeypatch.setattr(Bucket, "upload", once)
    with pytest.raises(RuntimeError, match="cut off"):
        machine("a", mirror_seconds=60).produce("finetune", KEYS[0], {}, cut_off)
    assert [text for text in said if "could not be mirrored: the storage does not answer" in text] == said != []
    assert bucket.read(sent[0]) is None


def test_what_others_put_into_the_bucket_is_left(machine, bucket):
    machine("a").produce("select", KEYS[0], {}, make)
    foreign = ["artifacts/README", "artifacts/select/README", "artifacts/a/b/c.json", "files/README", "files/a/b/c"]
    for name in foreign:
        bucket.write(name, b"mine")
    own = Published(bucket, print)
    assert [(sent.stage, sent.key) for sent in own.entries()] == [("select", KEYS[0])]
    assert not set(own.left_over()) & set(foreign)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}"])
def test_files_of_a_manifest_that_is_none_are_left_over(machine, bucket, content):
    machine("a").produce("select", KEYS[0], {}, make)
    bucket.write(f"artifacts/select/{KEYS[0]}.json", content)
    files = [name for name, _, _ in bucket.names("files")]
    assert files
    assert set(files) <= set(Published(bucket, print).left_over())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"folder": "x", "files": {"a": {"object": "y"}}}'])
def test_a_list_of_checkpoints_that_is_none_is_left_out(bucket, tmp_path, content):
    bucket.write(f"unfinished/finetune-{KEYS[0]}/{NEWEST}", content)
    assert mirrored(bucket, f"unfinished/finetune-{KEYS[0]}", tmp_path / "here") == {}
