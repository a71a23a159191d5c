"""Leases in object storage: one holder at a time, by the storage's own clock, and none that wakes and goes on."""

import json
import threading
import time
from dataclasses import asdict

import pytest

from vsrprune.errors import UserError
from vsrprune.store.lease import Holder
from vsrprune.store.remote_lease import RemoteLease, is_held_remotely, try_remote

NAME = "leases/pretrain-0123456789abcdef.json"


def of_another_machine(bucket, token="theirs"):
    """A lease that a process of another machine, of which nobody here knows, has just taken."""
    holder = Holder("elsewhere/boot/1", 4242, "77", token)
    return bucket.create(NAME, json.dumps({**asdict(holder), "beat": 0}).encode())


def test_one_of_many_processes_gets_the_lease(bucket):
    start, got = threading.Barrier(6), []

    def take():
        start.wait()
        got.append(try_remote(bucket, NAME, 60))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(one, RemoteLease) for one in got) == 1
    winner = next(one for one in got if isinstance(one, RemoteLease))
    assert all(one.token == winner.token for one in got if isinstance(one, Holder))


def test_a_lease_that_is_given_back_is_free(bucket):
    with try_remote(bucket, NAME, 60):
        assert is_held_remotely(bucket, NAME, 60)
        assert isinstance(try_remote(bucket, NAME, 60), Holder)
    assert not is_held_remotely(bucket, NAME, 60)
    assert isinstance(try_remote(bucket, NAME, 60), RemoteLease)


@pytest.mark.long
def test_a_silent_holder_of_another_machine_loses_the_lease_after_its_length(bucket):
    of_another_machine(bucket)
    assert str(try_remote(bucket, NAME, 3)) == "process 4242 on elsewhere"
    time.sleep(4.2)  # S3 tells dates in whole seconds
    assert isinstance(try_remote(bucket, NAME, 3), RemoteLease)


def test_the_clock_of_this_machine_does_not_count(bucket, monkeypatch):
    of_another_machine(bucket)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert isinstance(try_remote(bucket, NAME, 60), Holder)


def test_a_dead_process_of_this_machine_loses_it_at_once(bucket):
    dead = Holder(Holder.this_process().host, 4_194_000, "1", "gone")
    bucket.create(NAME, json.dumps({**asdict(dead), "beat": 0}).encode())
    assert isinstance(try_remote(bucket, NAME, 60), RemoteLease)


@pytest.mark.long
def test_a_holder_keeps_it_by_beating(bucket):
    with try_remote(bucket, NAME, 2.5) as lease:
        time.sleep(4)
        assert is_held_remotely(bucket, NAME, 2.5)
        assert lease.is_mine()


def test_a_holder_that_wakes_after_a_takeover_finds_that_it_lost(bucket):
    stalled = try_remote(bucket, NAME, 60)
    there = bucket.read(NAME)
    next_one = json.dumps({**asdict(Holder("elsewhere/boot/1", 4242, "77", "next")), "beat": 0}).encode()
    assert bucket.replace(NAME, next_one, there.e_tag)
    assert not stalled.is_mine()
    with stalled:
        pass  # gives back what is no longer its own
    assert bucket.read(NAME).content == next_one


def test_a_torn_or_strange_lease_is_nobodys(bucket):
    for content in (b"", b"{", b"[]", b'{"host": 1, "pid": "x", "started": "", "token": "", "beat": 0}', b"\xff"):
        bucket.write(NAME, content)
        assert not is_held_remotely(bucket, NAME, 60)
    assert isinstance(try_remote(bucket, NAME, 60), RemoteLease)


def test_a_beat_whose_answer_never_came_costs_no_lease(bucket):
    lease = try_remote(bucket, NAME, 60)
    known = lease._e_tag
    assert lease.is_mine()
    lease._e_tag = known  # as it is where the storage took that beat, and was silent for all tries
    assert lease.is_mine()
    assert lease.is_mine()


def test_what_the_work_came_to_is_not_hidden_by_a_lease_that_cannot_be_given_back(bucket, monkeypatch):
    def silent(*arguments):
        raise UserError("the storage does not answer")

    lease = try_remote(bucket, NAME, 60)
    monkeypatch.setattr(bucket, "replace", silent)
    with pytest.raises(KeyboardInterrupt), lease:
        raise KeyboardInterrupt
