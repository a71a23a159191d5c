"""What a stage asks of an S3 server, counted on its way there: the numbers that benchmarks/scaling/ reckons with."""

import threading
import time
import zlib
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace

import pytest
from tests.object_storage import as_in, environment, failing_storage, make_bucket

from benchmarks.scaling import design
from benchmarks.scaling.design import (
    AGE,
    BEAT,
    FETCH,
    FILES,
    KEPT,
    KINDS,
    LOOK,
    MIRROR,
    PRODUCE,
    PUBLISH,
    RESUME,
    STOP_LOOK,
    TAKE,
    UNHELD,
    UNLIST,
    add,
    pages,
    parts,
)
from vsrprune.host import stopping
from vsrprune.store import lease, published, remote_store
from vsrprune.store.bucket import Bucket
from vsrprune.store.mirror import Mirror
from vsrprune.store.places import open_place
from vsrprune.store.remote_lease import try_remote
from vsrprune.store.remote_store import Terms

KEY = "0123456789abcdef"
LEASE = f"leases/finetune-{KEY}.json"
HOUR = 3600.0  # no beat and no mirroring meanwhile
SETTLED = 20.0


@pytest.fixture
def counts(s3, monkeypatch, request):
    """What the storage at s3://counted... was asked so far, by kind."""
    with failing_storage(s3, share=0) as (address, counts):
        as_in(environment(address), monkeypatch)
        make_bucket(address, _bucket_of(request))
        yield counts


def _bucket_of(request):
    return f"counted{zlib.crc32(request.node.name.encode())}"


@pytest.fixture
def bucket(counts, request):
    return Bucket(f"s3://{_bucket_of(request)}/prefix", print)


@pytest.fixture
def machine(bucket, tmp_path):
    def opened(name, mirror_seconds=HOUR):
        return open_place(bucket.url, print, print, Terms(HOUR, mirror_seconds), cache_dir=str(tmp_path / name))

    return opened


@pytest.fixture
def asked(counts):
    """What the storage is asked while a function runs."""

    def while_it_runs(function):
        before = Counter(counts)
        function()
        return of_kinds(counts - before)

    return while_it_runs


def of_kinds(counts):
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def want(store, make):
    """Have a stage, as `run_stages` does."""
    return store.find("finetune", KEY) or store.produce("finetune", KEY, {}, make)


def make(folder, work):
    for number in range(FILES):
        (folder / f"{number}.json").write_text(f"{number}")


def checkpoint(work, step):
    for path in sorted(work.glob("step-*"))[: -2 * (KEPT - 1)]:
        path.unlink()
    (work / f"step-{step}.ckpt").write_text(f"weights {step}")
    (work / f"step-{step}.sha256").write_text(f"checksum {step}")
    (work / "rows.jsonl").write_text("row\n" * step)


def test_a_stage_that_is_made_and_then_fetched(machine, asked):
    assert asked(lambda: want(machine("a"), make)) == add(LOOK, PRODUCE, UNHELD, TAKE, PUBLISH)
    assert asked(lambda: want(machine("b"), make)) == add(LOOK, FETCH)


@pytest.mark.parametrize("mirrored", [1, 2, 4])
def test_a_training_that_is_mirrored(machine, asked, counts, mirrored, monkeypatch):
    copying, copy = threading.Lock(), Mirror.copy

    def copy_alone(mirror):
        with copying:
            copy(mirror)

    def train(folder, work):
        until = counts["PUT"]
        for step in range(1, mirrored + 1):
            with copying:
                checkpoint(work, step)
            until, give_up = until + MIRROR["PUT"], time.monotonic() + SETTLED
            while counts["PUT"] < until:
                assert time.monotonic() < give_up
                time.sleep(0.005)
        make(folder, work)

    monkeypatch.setattr(Mirror, "copy", copy_alone)
    found = asked(lambda: want(machine("a", mirror_seconds=0.01), train))
    assert found == add(LOOK, PRODUCE, UNHELD, TAKE, *[MIRROR] * mirrored, PUBLISH, UNLIST)


def test_each_look_of_who_waits(machine, bucket, counts, monkeypatch):
    def sleep(seconds):
        slept.append(Counter(counts))
        if len(slept) == 3:
            raise InterruptedError

    try_remote(bucket, LEASE, HOUR)
    slept = [Counter(counts)]
    monkeypatch.setattr(remote_store, "time", SimpleNamespace(sleep=sleep))
    with pytest.raises(InterruptedError):
        want(machine("a"), make)
    assert of_kinds(slept[1] - slept[0]) == add(LOOK, PRODUCE, AGE)
    assert of_kinds(slept[2] - slept[1]) == add(LOOK, AGE)


def test_a_training_that_is_taken_over_goes_on_from_what_was_mirrored(machine, bucket, asked, monkeypatch):
    def fail(folder, work):
        for step in (1, 2, 3):
            checkpoint(work, step)
        raise RuntimeError("the machine is wanted back")

    def go_on(folder, work):
        assert sorted(path.suffix for path in work.iterdir()) == [".ckpt", ".ckpt", ".jsonl", ".sha256", ".sha256"]
        make(folder, work)

    with pytest.raises(RuntimeError):
        want(machine("a"), fail)
    try_remote(bucket, LEASE, HOUR)  # another takes it, and vanishes for longer than a lease holds
    now = Bucket.now
    monkeypatch.setattr(Bucket, "now", lambda bucket: now(bucket) + timedelta(seconds=2 * HOUR))
    # MIRROR counts the end of each file that it sends; here those of the first holder end.
    ends = {"DELETE": 2 * KEPT + 1}
    assert asked(lambda: want(machine("b"), go_on)) == add(LOOK, PRODUCE, AGE, TAKE, RESUME, PUBLISH, UNLIST, ends)


def test_a_beat(bucket, asked):
    held = try_remote(bucket, LEASE, HOUR)
    assert asked(held.is_mine) == BEAT


def test_a_list_of_a_stage_holds_for_a_while(machine, asked):
    store = machine("a")
    assert asked(lambda: [store.exists("select", KEY), store.exists("select", KEY[::-1])]) == pages(0) == {"LIST": 1}


@pytest.mark.parametrize("megabytes", [5, 11])
def test_a_large_file_goes_in_parts(bucket, asked, tmp_path, megabytes):
    (tmp_path / "large").write_bytes(bytes(megabytes * 10**6))
    assert asked(lambda: bucket.upload("large", tmp_path / "large")) == add({"PUT": 1}, parts(megabytes))


def test_a_job_sees_whether_it_is_to_stop(bucket, counts, monkeypatch):
    monkeypatch.setenv(stopping.STOP_AT, f"{bucket.url} sweep")
    monkeypatch.setattr(stopping, "LOOK_SECONDS", 0.02)
    before, give_up = Counter(counts), time.monotonic() + SETTLED
    with stopping.stopping_when_asked():
        while counts["requests"] < before["requests"] + 3:
            assert time.monotonic() < give_up
            time.sleep(0.005)
    found = counts - before
    assert of_kinds(found) == {kind: number * found["requests"] for kind, number in STOP_LOOK.items()}


def test_the_times_between_requests_are_those_of_the_code():
    assert design.STOP_SECONDS == stopping.LOOK_SECONDS
    assert design.POLL_SECONDS == remote_store.LOOK_SECONDS
    assert (design.LIST_AGAIN, design.LIST_SHARE) == (published.LOOK_AGAIN, published.SHARE_OF_LOOKING)
    assert design.BEATS == lease.BEATS
