"""Object storage: who wins is decided by the storage, what fails is tried again, and no message shows a secret."""

import datetime
import os
import signal
import socket
import threading

import pytest
from tests.object_storage import CREDENTIALS, as_in, environment, failing_storage, make_bucket, storage_that_answers

from vsrprune.errors import UserError
from vsrprune.store import bucket as bucket_module
from vsrprune.store.bucket import Bucket, check_url, is_url


def test_what_was_written_is_read_back(bucket):
    bucket.write("a/b.json", b"one")
    assert bucket.read("a/b.json").content == b"one"
    bucket.write("a/b.json", b"two")
    assert bucket.read("a/b.json").content == b"two"


def test_what_is_not_there_is_none(bucket, tmp_path):
    assert bucket.read("a/b.json") is None
    assert bucket.download("a/b.json", tmp_path / "x") is False
    assert bucket.names("a") == []
    bucket.delete(["a/b.json"])


def test_a_name_is_created_once(bucket):
    assert bucket.create("lease", b"first")
    assert bucket.create("lease", b"second") is None
    assert bucket.read("lease").content == b"first"


def test_one_of_many_creators_wins(bucket):
    won = []
    start = threading.Barrier(8)

    def create(number):
        start.wait()
        if bucket.create("lease", str(number).encode()) is not None:
            won.append(str(number).encode())

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bucket.read("lease").content] == won


def test_an_object_is_replaced_by_who_read_it_last(bucket):
    first = bucket.create("lease", b"0")
    second = bucket.replace("lease", b"1", first)
    assert second
    assert second != first
    assert bucket.replace("lease", b"2", first) is None
    assert bucket.read("lease").content == b"1"
    assert bucket.read("lease").e_tag == second
    bucket.delete(["lease"])
    assert bucket.replace("lease", b"3", second) is None
    assert bucket.read("lease") is None


def test_files_go_there_and_back_with_every_byte(bucket, tmp_path):
    content = bytes(range(256)) * 50_000  # more than one part of a transfer
    (tmp_path / "sent").write_bytes(content)
    bucket.upload("files/x", tmp_path / "sent")
    assert bucket.download("files/x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert [(name, size) for name, size, _ in bucket.names("files")] == [("files/x", len(content))]


def test_a_prefix_names_whole_folders(bucket):
    bucket.write("files/ab/x", b"1")
    bucket.write("files/abc/y", b"2")
    assert [name for name, _, _ in bucket.names("files/ab")] == ["files/ab/x"]


def test_the_time_is_the_servers(bucket):
    now = datetime.datetime.now(datetime.UTC)
    assert abs((bucket.now() - now).total_seconds()) < 60
    assert bucket.names("clock") == []


# What is no place


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/x", "s3://BUCKET/PREFIX"),
        ("s3:///x", "the bucket is missing"),
        ("s3://key:secret@bucket/x", "no key"),
        ("file://relative/x", "whole path"),
        ("s3:/bucket/x", "both slashes"),
        ("S3://bucket/x", "=S3://...: a store in object storage is s3://"),
    ],
)
def test_a_url_that_names_no_storage_is_refused_in_one_line(url, says):
    with pytest.raises(UserError) as raised:
        check_url("store_dir", url)
    assert says in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_is_no_url():
    assert not is_url("store")
    assert not is_url("/data/store")
    assert not is_url("s3")
    assert is_url("s3://bucket/store")
    assert is_url("s3:/bucket/store")  # a slip, which is named; no folder called s3: is made


# What fails


def answered(monkeypatch, code, word, say=lambda text: None):
    monkeypatch.setattr(bucket_module, "FIRST_WAIT", 0.001)
    body = f"<?xml version='1.0'?><Error><Code>{word}</Code><Message>no</Message></Error>"
    with storage_that_answers(code, body) as address:
        as_in(environment(address), monkeypatch)
        bucket = Bucket("s3://bucket/store", say)
        calls = (lambda: bucket.read("x"), lambda: bucket.create("x", b"1"), lambda: bucket.names("x"))
        messages = []
        for call in calls:
            with pytest.raises(UserError) as raised:
                call()
            messages.append(str(raised.value))
    return messages


@pytest.mark.parametrize(
    ("code", "word", "says"),
    [
        (403, "AccessDenied", "does not allow this (AccessDenied)"),
        (403, "InvalidAccessKeyId", "does not take these credentials"),
        (401, "Unauthorized", "does not take these credentials"),
        (400, "ExpiredToken", "renew them"),
        (404, "NoSuchBucket", "there is no such bucket"),
        (507, "InsufficientStorage", "the storage is full"),
        (503, "SlowDown", "SlowDown"),
        (500, "InternalError", "run the same command again"),
    ],
)
def test_what_the_storage_answers_becomes_one_line_without_secrets(monkeypatch, code, word, says):
    for message in answered(monkeypatch, code, word):
        assert says in message
        assert message.startswith("s3://bucket/store")
        assert "\n" not in message
        assert not any(value in message for value in (*CREDENTIALS.values(), "http://", "Debug"))


def test_nobody_listening_becomes_one_line(monkeypatch):
    monkeypatch.setattr(bucket_module, "FIRST_WAIT", 0.001)
    as_in(environment("http://127.0.0.1:9"), monkeypatch)
    with pytest.raises(UserError, match="does not answer as it should, after 8 tries"):
        Bucket("s3://bucket/store", lambda text: None).read("x")


def test_a_busy_storage_is_told_of_and_tried_again(monkeypatch, said):
    answered(monkeypatch, 503, "SlowDown", said.append)
    assert all("SlowDown; tries again in" in text for text in said)
    assert len(said) == 3 * 6  # of each call's eight tries the first is not told, and the last is the end


def test_answers_that_are_lost_change_nothing(s3, monkeypatch):
    monkeypatch.setattr(bucket_module, "FIRST_WAIT", 0.001)
    make_bucket(s3, "lossy")
    with failing_storage(s3, share=0.4, seed=3) as (address, counts):
        as_in(environment(address), monkeypatch)
        bucket = Bucket("s3://lossy/store", lambda text: None)
        e_tag = bucket.create("lease", b"0")
        for number in range(1, 12):
            e_tag = bucket.replace("lease", str(number).encode(), e_tag)
            assert e_tag is not None
            assert bucket.create("lease", b"other") is None
        assert bucket.read("lease").content == b"11"
    assert counts["lost"] > 3


def test_a_creator_that_met_another_request_tries_again_where_nothing_came_to_be(bucket, monkeypatch):
    objects, met = bucket._objects, []

    class Meeting:
        def __getattr__(self, name):
            return getattr(objects, name)

        def put(self, *arguments, **named):
            if not met:
                met.append(arguments)
                raise bucket._errors.AlreadyExistsError("409 ConditionalRequestConflict")
            return objects.put(*arguments, **named)

    monkeypatch.setattr(bucket, "_objects", Meeting())
    assert bucket.create("lease", b"mine") is not None
    assert bucket.read("lease").content == b"mine"


def test_a_profile_that_is_not_there_becomes_one_line(monkeypatch):
    pytest.importorskip("boto3")
    as_in({"AWS_PROFILE": "nobodys"}, monkeypatch)
    with pytest.raises(UserError, match=r"^s3://bucket/store: The config profile \(nobodys\) could not be found$"):
        Bucket("s3://bucket/store", print)


def test_no_credentials_at_all_become_one_line_at_once(monkeypatch, tmp_path):
    pytest.importorskip("boto3")
    nowhere = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "a"), "AWS_CONFIG_FILE": str(tmp_path / "b")}
    as_in({**nowhere, "AWS_EC2_METADATA_DISABLED": "true"}, monkeypatch)
    with pytest.raises(UserError, match=r"^s3://bucket/store: no credentials were found: set AWS_ACCESS_KEY_ID"):
        Bucket("s3://bucket/store", print)


def test_a_machine_without_a_role_is_told_that_no_credentials_are_set(bucket, monkeypatch):
    def asks_the_machine():
        raise bucket._errors.GenericError(
            "Error performing PUT http://169.254.169.254/latest/api/token in 10 s - timed out"
        )

    with pytest.raises(UserError, match="no credentials are set"):
        bucket._patiently(asks_the_machine)


def test_a_sign_on_that_ran_out_is_told_at_once(bucket, monkeypatch, said):
    def expired():
        raise bucket._errors.UnauthenticatedError("Token has expired")

    with pytest.raises(UserError, match="renew them"):
        bucket._patiently(expired)
    assert said == []


def test_ctrl_c_does_not_wait_for_a_storage_that_is_silent(monkeypatch, tmp_path):
    (tmp_path / "large").write_bytes(bytes(30_000_000))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        as_in(environment(f"http://127.0.0.1:{silent.getsockname()[1]}"), monkeypatch)
        bucket = Bucket("s3://bucket/store", print)
        for call in (lambda: bucket.read("x"), lambda: bucket.upload("x", tmp_path / "large")):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                call()
