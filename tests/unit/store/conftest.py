"""A storage for the tests of this folder: a real S3 server, and a folder through the same code."""

import itertools

import pytest
from tests.object_storage import as_in, environment, make_bucket, s3_server

from vsrprune.store import bucket as bucket_module
from vsrprune.store.bucket import Bucket
from vsrprune.store.places import open_place
from vsrprune.store.remote_store import Terms

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3():
    with s3_server() as address:
        yield address


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path, monkeypatch):
    """The URL of an empty store."""
    monkeypatch.setattr(bucket_module, "FIRST_WAIT", 0.001)
    if request.param == "file":
        return f"file://{tmp_path}/remote"
    address = request.getfixturevalue("s3")
    as_in(environment(address), monkeypatch)
    name = f"bucket{next(NUMBERS)}"
    make_bucket(address, name)
    return f"s3://{name}/some/prefix"


@pytest.fixture
def said():
    return []


@pytest.fixture
def bucket(url, said):
    return Bucket(url, said.append)


@pytest.fixture
def machine(url, tmp_path, said):
    """What opens the store as a machine of that name does, whose folder nobody else has."""

    def opened(name, **terms):
        return open_place(url, said.append, said.append, Terms(**terms), cache_dir=str(tmp_path / name))

    return opened
