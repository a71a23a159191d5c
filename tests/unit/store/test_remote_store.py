"""A store in object storage: what is published there is whole, made once, verified on arrival, and gone on with."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from tests.object_storage import as_in, environment, failing_storage, make_bucket

from vsrprune.errors import UserError
from vsrprune.store import remote_store
from vsrprune.store.bucket import Bucket
from vsrprune.store.places import local_folder, open_place
from vsrprune.store.published import Published
from vsrprune.store.store import MANIFEST

KEY = "0123456789abcdef"


def make(folder, work):
    (folder / "values.json").write_text('{"psnr": 31.5}')
    (folder / "crops").mkdir()
    (folder / "crops" / "a.png").write_bytes(bytes(range(256)))


def never(folder, work):
    raise AssertionError("it was computed twice")


def test_what_one_machine_made_another_takes(machine):
    made = machine("a").produce("select", KEY, {"ratio": 0.5}, make)
    taken = machine("b").produce("select", KEY, {"ratio": 0.5}, never)
    assert taken.folder != made.folder
    assert taken.manifest == made.manifest
    assert (taken.folder / MANIFEST).read_bytes() == (made.folder / MANIFEST).read_bytes()
    assert taken.path("crops/a.png").read_bytes() == bytes(range(256))


def test_it_exists_for_all_once_it_is_published(machine):
    early = machine("b")
    assert not early.exists("select", KEY)
    machine("a").produce("select", KEY, {}, make)
    assert machine("c").exists("select", KEY)
    assert machine("c").find("select", KEY).json("values.json") == {"psnr": 31.5}


def test_nothing_is_left_but_the_artifact(machine, bucket):
    def with_checkpoint(folder, work):
        (work / "step-1.ckpt").write_text("1")
        make(folder, work)

    machine("a", mirror_seconds=0.01).produce("select", KEY, {}, with_checkpoint)
    kinds = {name.split("/")[0] for name, _, _ in bucket.names("") if not name.startswith("leases/")}
    assert kinds == {"artifacts", "files"}


def test_two_machines_make_a_stage_once(machine, monkeypatch):
    monkeypatch.setattr(remote_store, "LOOK_SECONDS", 0.05)
    counted, start = [], threading.Barrier(2)

    def slowly(folder, work):
        counted.append(folder)
        threading.Event().wait(0.5)
        make(folder, work)

    def run(name):
        start.wait()
        machine(name).produce("select", KEY, {}, slowly)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1


def test_who_waits_is_told_for_whom(machine, said, monkeypatch):
    monkeypatch.setattr(remote_store, "LOOK_SECONDS", 0.05)
    waiting = threading.Event()
    monkeypatch.setattr(remote_store.time, "sleep", lambda seconds: waiting.set())

    def until_awaited(folder, work):
        assert waiting.wait(20)
        make(folder, work)

    maker = threading.Thread(target=machine("a").produce, args=("select", KEY, {}, until_awaited))
    maker.start()
    while not machine("b").is_held(f"select-{KEY}"):
        pass
    machine("b").produce("select", KEY, {}, never)
    maker.join()
    assert [text for text in said if f"select {KEY} is being computed by process {os.getpid()}" in text]


def test_a_bit_that_flipped_in_the_storage_is_noticed_and_computed_again(machine, bucket, said):
    machine("a").produce("select", KEY, {}, make)
    name = next(name for name, _, _ in bucket.names("files") if name.endswith("a.png"))
    bucket.write(name, bytes(range(255)) + b"\x00")
    mended = machine("b").produce("select", KEY, {}, make)
    assert mended.path("crops/a.png").read_bytes() == bytes(range(256))
    assert any("crops/a.png fails its checksum; set aside as damaged/select-" in text for text in said)
    assert machine("c").produce("select", KEY, {}, never)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"files": "x", "manifest": {"manifest_sha256": "0"}}'])
def test_a_manifest_that_is_none_is_set_aside(machine, bucket, content, said):
    bucket.write(f"artifacts/select/{KEY}.json", content)
    assert machine("a").produce("select", KEY, {}, make)
    assert any("set aside as damaged" in text for text in said)


def test_a_manifest_cannot_write_outside_its_folder(machine, bucket, tmp_path, said):
    machine("a").produce("select", KEY, {}, make)
    sent = json.loads(bucket.read(f"artifacts/select/{KEY}.json").content)
    sent["manifest"]["files"] = {"../../../out": {"bytes": 0, "sha256": ""}}
    from vsrprune.store.sealed import checksum_of

    values = {name: value for name, value in sent["manifest"].items() if name != "manifest_sha256"}
    sent["manifest"]["manifest_sha256"] = checksum_of(values)
    bucket.write(f"artifacts/select/{KEY}.json", json.dumps(sent).encode())
    assert machine("b").find("select", KEY) is None
    assert not list(tmp_path.rglob("out"))
    assert any("no name of a file" in text for text in said)


def test_a_store_of_another_version_is_refused(machine, bucket, monkeypatch):
    monkeypatch.setattr("vsrprune.store.store.FORMAT", 1)
    machine("a").produce("select", KEY, {}, make)
    monkeypatch.undo()
    with pytest.raises(UserError, match="another version of vsrprune"):
        Published(bucket, print).fetch("select", KEY, Path(local_folder(bucket.url)) / "x")


def test_of_two_that_publish_the_first_is_the_one(machine, bucket, tmp_path):
    first = machine("a").produce("select", KEY, {}, make)
    assert not Published(bucket, print).send(first.folder, "select", KEY)
    tokens = {name.split("/")[3] for name, _, _ in bucket.names("files")}
    assert len(tokens) == 1


def test_another_machine_goes_on_from_mirrored_checkpoints(machine, monkeypatch):
    def stopped(folder, work):
        (work / "step-400.ckpt").write_bytes(b"state")
        (work / "rows").mkdir()
        (work / "rows" / "r.json").write_text("[]")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine("a").produce("finetune", KEY, {}, stopped)
    seen = []

    def goes_on(folder, work):
        seen.extend(sorted(path.relative_to(work).as_posix() for path in work.rglob("*")))
        make(folder, work)

    machine("b").produce("finetune", KEY, {}, goes_on)
    assert seen == ["rows", "rows/r.json", "step-400.ckpt"]


def test_the_machine_that_got_furthest_is_gone_on_with(machine):
    def step(number, by_error=True):
        def run(folder, work):
            for old in work.glob("step-*"):
                old.unlink()
            (work / f"step-{number}").write_text(str(number))
            raise KeyboardInterrupt

        return run

    for name, number in (("a", 1), ("b", 2), ("a", 3), ("b", 4)):
        with pytest.raises(KeyboardInterrupt):
            machine(name).produce("finetune", KEY, {}, step(number))
    seen = []

    def last(folder, work):
        seen.extend(path.name for path in work.iterdir())
        make(folder, work)

    machine("a").produce("finetune", KEY, {}, last)
    assert seen == ["step-4"]


def test_a_mirrored_checkpoint_that_is_damaged_is_left_out(machine, bucket):
    def stopped(folder, work):
        (work / "step-400.ckpt").write_bytes(b"state")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine("a").produce("finetune", KEY, {}, stopped)
    for name, _, _ in bucket.names("unfinished"):
        if not name.endswith("newest.json"):
            bucket.write(name, b"stats")
    seen = []

    def afresh(folder, work):
        seen.extend(work.iterdir())
        make(folder, work)

    machine("b").produce("finetune", KEY, {}, afresh)
    assert seen == []


def test_only_what_is_new_is_mirrored(machine, bucket):
    sent = []

    def run(folder, work):
        for number in range(3):
            (folder / "beside").write_text(str(number))  # whole at once, as checkpoints are
            (folder / "beside").rename(work / f"step-{number}")
            threading.Event().wait(0.3)
            sent.append(sorted(name for name, _, _ in bucket.names("unfinished") if not name.endswith("newest.json")))
        make(folder, work)

    machine("a", mirror_seconds=0.05).produce("finetune", KEY, {}, run)
    assert [len(names) for names in sent] == [1, 2, 3]
    assert set(sent[0]) < set(sent[1]) < set(sent[2])


# The cache


def test_the_cache_keeps_what_was_used_last(machine, tmp_path):
    keys = [f"{number:016x}" for number in range(4)]
    store = machine("a")
    for number, key in enumerate(keys):
        store.produce("select", key, {"number": number}, make)
    one = 14 + 256
    for key in keys:
        # Every look is of a process of its own: what a living process uses stays.
        reader = machine("b", cache_bytes=2.5 * one)
        reader.find("select", key)
        reader._use.close()
    kept = {path.parent.name for path in (tmp_path / "b").glob(f"*/select/*/{MANIFEST}")}
    assert kept == {keys[3], keys[2]}


def test_what_a_living_process_uses_is_not_taken_away(machine, tmp_path):
    keys = [f"{number:016x}" for number in range(4)]
    for key in keys:
        machine("a").produce("select", key, {}, make)
    user = machine("b", cache_bytes=1)
    held = user.find("select", keys[0])
    for key in keys[1:]:
        other = machine("b", cache_bytes=1)
        other.find("select", key)
        other._use.close()
    assert held.json("values.json") == {"psnr": 31.5}
    assert (user.find("select", keys[0])).folder == held.folder


# Upstream


def test_finished_stages_are_taken_from_upstream_and_new_ones_go_to_ones_own(machine, url, bucket, tmp_path, said):
    machine("a").produce("select", KEY, {}, make)
    before = bucket.names("")
    other = "f" * 16
    mine = open_place(tmp_path / "mine", said.append, said.append, upstream=url)
    assert mine.exists("select", KEY)
    assert mine.produce("select", KEY, {}, never)
    assert mine.produce("prune", other, {}, make)
    assert bucket.names("") == before
    assert (tmp_path / "mine" / "prune" / other / MANIFEST).is_file()


def test_damage_upstream_is_told_and_left(machine, url, bucket, tmp_path, said):
    machine("a").produce("select", KEY, {}, make)
    name = next(name for name, _, _ in bucket.names("files") if name.endswith("a.png"))
    bucket.write(name, b"x")
    before = bucket.names("")
    mine = open_place(tmp_path / "mine", said.append, said.append, upstream=url)
    assert mine.produce("select", KEY, {}, make)
    assert any("it is not taken from there" in text for text in said)
    assert bucket.names("") == before


# Faults

CHILD = """
import sys
from vsrprune.store.places import open_place
from vsrprune.store.remote_store import Terms
url, cache, key, log = sys.argv[1:]
say = lambda text: None
store = open_place(url, say, say, Terms(lease_seconds=2, mirror_seconds=0.05), cache_dir=cache)
def make(folder, work):
    steps = work / "steps"
    done = int(steps.read_text()) if steps.exists() else 0
    for step in range(done, 250):
        with open(log, "a") as stream:
            stream.write(f"{step}\\n")
        beside = work / ".steps"
        beside.write_text(str(step + 1))
        beside.rename(steps)
        import time; time.sleep(0.02)
    (folder / "values.json").write_text('{"psnr": 31.5}')
store.produce("finetune", key, {}, make)
"""


def start(url, cache, log, environment):
    command = [sys.executable, "-c", textwrap.dedent(CHILD), url, str(cache), KEY, str(log)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.long
def test_killed_twenty_times_on_two_machines_the_work_goes_on_and_is_published_once(s3, tmp_path, monkeypatch):
    import random

    make_bucket(s3, "killed")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    as_in(environment(s3), monkeypatch)
    draw, log, url = random.Random(7), tmp_path / "log", "s3://killed/store"
    for kill in range(20):
        child = start(url, tmp_path / "ab"[kill % 2], log, dict(os.environ))
        threading.Event().wait(draw.uniform(0.1, 0.8))
        child.kill()
        child.communicate()
    assert Bucket(url, print).names("artifacts") == []
    for cache in "ab":
        ended = start(url, tmp_path / cache, log, dict(os.environ))
        _, error = ended.communicate(timeout=120)
        assert ended.returncode == 0, error.decode()
    steps = list(map(int, log.read_text().split()))
    assert len(steps) < 2 * 250  # what was mirrored was not done again
    assert set(steps) == set(range(250))
    bucket = Bucket(url, print)
    assert [name for name, _, _ in bucket.names("artifacts")] == [f"artifacts/finetune/{KEY}.json"]
    assert bucket.names("unfinished") == []


@pytest.mark.long
def test_a_storage_that_fails_one_request_in_ten_loses_nothing(s3, tmp_path, monkeypatch):
    make_bucket(s3, "flaky")
    monkeypatch.setattr("vsrprune.store.bucket.FIRST_WAIT", 0.001)
    monkeypatch.setattr(remote_store, "LOOK_SECONDS", 0.05)
    made = []
    with failing_storage(s3, 0.1, seed=1) as (address, counts):
        as_in(environment(address), monkeypatch)

        def run(name):
            store = open_place("s3://flaky/s", print, cache_dir=str(tmp_path / name))
            for number in range(20):

                def counted(folder, work, number=number):
                    made.append(number)
                    make(folder, work)

                store.produce("select", f"{number:016x}", {}, counted)

        threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(made) == list(range(20))
    assert counts["failed"] > 20
    as_in(environment(s3), monkeypatch)
    assert len(Published(Bucket("s3://flaky/s", print), print).entries()) == 20
    tokens = [name.split("/")[2:4] for name, _, _ in Bucket("s3://flaky/s", print).names("files")]
    assert len({tuple(item) for item in tokens}) == 20
