"""Sweeps whose machines share nothing but object storage: the same bits as with a folder, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, minimal_overrides, run_py
from test_faults import start
from tests.object_storage import as_in, environment, failing_storage, make_bucket, s3_server

from vsrprune.store.bucket import Bucket

pytestmark = pytest.mark.skipif(importlib.util.find_spec("obstore") is None, reason="obstore is not installed")
NEEDS_DASK = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")

TWO = ["rsc=true,false", "ratio=0.5"]
PLAIN = ["tracking=none", "launcher.threads=1", "trainer.threads=1"]
PATIENCE = 180


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


def arguments(folder: Path, store: str, *more: str) -> list[str]:
    given = [item for item in minimal_overrides(folder) if not item.startswith("store_dir=")]
    return ["-m", *given, *PLAIN, f"store_dir={store}", *more]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """result.json of the jobs of TWO with a store in a folder."""
    folder = tmp_path_factory.mktemp("folder")
    done = run_py(*arguments(folder, str(folder / "store"), *TWO))
    assert done.returncode == 0, done.stdout + done.stderr
    return results(folder)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A sweep whose jobs start from nothing: a process that has used the client of the storage cannot be forked."""
    return run_py(*command, path=[ROOT / "src"])


def results(folder: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in folder.glob("runs/**/result.json")}


def published(store: str) -> Counter[str]:
    """How many of each kind of stage are published; and every file that is there belongs to one of them."""
    bucket = Bucket(store, print)
    manifests = [name for name, _, _ in bucket.names("artifacts")]
    tokens = set()
    for name in manifests:
        thing = bucket.read(name)
        assert thing is not None
        tokens.add(json.loads(thing.content)["files"])
    assert {name.split("/")[3] for name, _, _ in bucket.names("files")} == tokens
    return Counter(name.split("/")[1] for name in manifests)


def made(folder: Path) -> Counter[str]:
    """How many times the jobs say that they made each kind of stage."""
    logs = [path.read_text() for path in folder.glob("runs/**/output.log")]
    words = [line.split() for log in logs for line in log.splitlines() if " done in " in line and line[:2] == "  "]
    return Counter(line[0] for line in words)


@pytest.mark.long
def test_a_sweep_is_the_same_in_a_bucket_and_done_when_called_again_from_another_machine(
    tmp_path: Path, server: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_in(environment(server), monkeypatch)
    make_bucket(server, "plain")
    command = arguments(tmp_path, "s3://plain/store", *TWO, f"store.cache_dir={tmp_path / 'a'}")
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(tmp_path) == expected
    assert "a-secret-that-no-message-shows" not in "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()
    )
    other = tmp_path / "other"
    other.mkdir()
    again = run(*arguments(other, "s3://plain/store", *TWO, f"store.cache_dir={tmp_path / 'b'}"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 jobs: 0 done, 2 reused, 0 failed" in again.stdout
    assert results(other) == expected


@pytest.mark.slow
def test_a_storage_that_fails_one_request_in_ten_changes_no_bit(
    tmp_path: Path, server: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bucket(server, "flaky")
    with failing_storage(server, 0.1, seed=5) as (address, counts):
        as_in(environment(address), monkeypatch)
        done = run(*arguments(tmp_path, "s3://flaky/store", *TWO, f"store.cache_dir={tmp_path / 'a'}"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts["failed"] > 5
    assert results(tmp_path) == expected


@pytest.mark.slow
def test_killed_twenty_times_on_two_machines_it_ends_with_the_same_bits(
    tmp_path: Path, server: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_in(environment(server), monkeypatch)
    make_bucket(server, "killed")
    draw, kills = random.Random(26), 0
    while kills < 20:
        machine = tmp_path / "ab"[kills % 2]
        machine.mkdir(exist_ok=True)
        command = arguments(machine, "s3://killed/store", *TWO, f"store.cache_dir={machine / 'cache'}")
        process = start(*command, "store.mirror_minutes=0.01", "store.lease_seconds=5")
        time.sleep(draw.uniform(2, 12))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        kills += 1
    for name in "ab":
        machine = tmp_path / name
        command = arguments(machine, "s3://killed/store", *TWO, f"store.cache_dir={machine / 'cache'}")
        done = run(*command, "store.lease_seconds=5")
        assert done.returncode == 0, done.stdout + done.stderr
        assert results(machine) == expected
    counted = published("s3://killed/store")
    assert counted["pretrain"] == 1
    assert counted["finetune"] == 2


# Workers that share no folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def machine_of(folder: Path) -> tuple[Path, dict[str, str]]:
    """A checkout and an environment of a machine's own: home, caches and temporary files."""
    checkout = folder / "project"
    for name in ("src", "conf", "sweeps"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XDG_RUNTIME_DIR")}
    for name, variable in (("home", "HOME"), ("cache", "XDG_CACHE_HOME"), ("tmp", "TMPDIR")):
        (folder / name).mkdir()
        own[variable] = str(folder / name)
    # An editable installation would be found by every Python; the worker's checkout comes first.
    own["VSRPRUNE_CHECKOUT"] = str(checkout)
    return checkout, own


class Cluster:
    """A scheduler of Dask, and workers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.address, self._folder = f"tcp://127.0.0.1:{free_port()}", folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start(["dask_scheduler", "--host", self.address, "--no-dashboard"], folder, dict(os.environ))

    def add_worker(self, name: str) -> subprocess.Popen[bytes]:
        folder = self._folder / name
        folder.mkdir()
        checkout, own = machine_of(folder)
        command = ["dask_worker", self.address, "--nthreads=1", "--memory-limit=0", "--no-dashboard", "--no-nanny"]
        return self._start([*command, f"--local-directory={folder}"], checkout, own)

    def _start(self, command: list[str], cwd: Path, variables: dict[str, str]) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.{command[0]}"
        with (self._folder / "daemons.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *command[1:]],
                cwd=cwd, env=variables, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    as_in(environment(server), monkeypatch)
    made_here = Cluster(tmp_path)
    try:
        yield made_here
    finally:
        made_here.close()


@NEEDS_DASK
@pytest.mark.slow
def test_workers_with_homes_and_checkouts_of_their_own_give_the_same_results(
    tmp_path: Path, server: str, expected: dict[str, str], cluster: Cluster
) -> None:
    make_bucket(server, "workers")
    for name in ("one", "two"):
        cluster.add_worker(name)
    asker = tmp_path / "asker"
    asker.mkdir()
    where = ["launcher=dask", "launcher.jobs=2", f"launcher.address={cluster.address}"]
    command = arguments(asker, "s3://workers/store", *TWO, *where, f"store.cache_dir={asker / 'cache'}")
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr + "".join(map(Path.read_text, asker.rglob("output.log")))
    assert results(asker) == expected
    assert made(asker) == published("s3://workers/store")
    assert not list(tmp_path.glob("*/tmp/vsrprune-job-*"))
    # Called again, it needs nothing of the bucket but what is there: results lie here.
    shutil.rmtree(asker / "cache")
    again = run(*command)
    assert "2 jobs: 0 done, 2 reused, 0 failed" in again.stdout
    assert not list((asker / "cache").rglob("manifest.json"))


@NEEDS_DASK
@pytest.mark.slow
def test_a_worker_that_is_killed_costs_what_was_not_mirrored_and_a_new_one_goes_on(
    tmp_path: Path, server: str, expected: dict[str, str], cluster: Cluster
) -> None:
    make_bucket(server, "lost")
    first = cluster.add_worker("one")
    asker = tmp_path / "asker"
    asker.mkdir()
    where = ["launcher=dask", "launcher.jobs=1", f"launcher.address={cluster.address}"]
    held = ["store.mirror_minutes=0.01", "store.lease_seconds=5"]
    command = arguments(asker, "s3://lost/store", *TWO, *where, *held, f"store.cache_dir={asker / 'cache'}")
    sweep = start(*command)
    bucket, until = Bucket("s3://lost/store", print), time.monotonic() + PATIENCE
    while not bucket.names("artifacts/pretrain"):
        assert sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)
    cluster.add_worker("two")
    out, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, out
    assert results(asker) == expected
    assert published("s3://lost/store")["pretrain"] == 1


@NEEDS_DASK
@pytest.mark.slow
def test_ctrl_c_stops_jobs_on_other_machines_with_a_checkpoint_in_the_bucket(
    tmp_path: Path, server: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bucket(server, "stopped")
    cluster.add_worker("one")
    asker = tmp_path / "asker"
    asker.mkdir()
    where = ["launcher=dask", "launcher.jobs=1", f"launcher.address={cluster.address}", "until=pretrain"]
    long = ["schedule.pretrain.steps=100000", "schedule.checkpoint_every=50", "store.mirror_minutes=0.02"]
    given = [item for item in arguments(asker, "s3://stopped/store", *where) if "pretrain.steps=4" not in item]
    given = [item for item in given if not item.startswith("schedule.checkpoint_every=2")]
    sweep = start(*given, *long, "pretrain_seed=0,1", f"store.cache_dir={asker / 'cache'}")
    bucket, until = Bucket("s3://stopped/store", print), time.monotonic() + PATIENCE
    while not [name for name, _, _ in bucket.names("unfinished") if name.endswith("newest.json")]:
        assert sweep.poll() is None, sweep.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)
    sweep.send_signal(signal.SIGINT)
    out, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 130, out
    assert bucket.names("artifacts/pretrain") == []
    assert [name for name, _, _ in bucket.names("unfinished") if name.endswith("newest.json")]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.slow
def test_ray_brings_the_project_to_a_node_that_has_none(
    tmp_path: Path, server: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bucket(server, "ray")
    as_in(environment(server), monkeypatch)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    project, asker, node = tmp_path / "project", tmp_path / "asker", tmp_path / "node"
    machine_of(asker.parent)  # the project of whoever asks
    for folder in (asker, node):
        folder.mkdir()
    ray_folder, port = tempfile.mkdtemp(prefix="ray"), free_port()  # the names of Ray's sockets must be short
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}"]
    command += ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={ray_folder}"]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (tmp_path / "ray.log").open("wb") as log:
        head = subprocess.Popen(
            [*command, "--disable-usage-stats"],
            cwd=node, env=own | {"HOME": str(node)}, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        until = time.monotonic() + PATIENCE
        while "Ray runtime started" not in (tmp_path / "ray.log").read_text():
            assert head.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        where = ["launcher=ray", "launcher.jobs=2", f"launcher.address=127.0.0.1:{port}"]
        where += [f"launcher.options.working_dir={project}", f"store.cache_dir={asker / 'cache'}"]
        done = run(*arguments(asker, "s3://ray/store", *TWO, *where))
        assert done.returncode == 0, done.stdout + done.stderr
        assert results(asker) == expected
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(ray_folder, ignore_errors=True)
