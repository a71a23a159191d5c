"""The store under kill -9, stalls, races and damaged files: computed once, published whole, never loaded damaged."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, minimal_overrides, run_py
from damaging import DAMAGE, cut
from forked import Script
from rich.console import Console

from vsrprune.jobs.housekeeping import clean_store, verify_store
from vsrprune.store.atomic import write_atomically
from vsrprune.store.store import MANIFEST, Store

pytestmark = pytest.mark.usefixtures("one_thread")

STAGE, KEY = "score", "0123456789abcdef"
PATIENCE = 60  # seconds until a process that should be long done counts as stuck

# Sends this process a signal just before its n-th system call that changes files, waits for a lock or makes durable.
# The disk does not change between two of them, so these are all the points at which a death can make a difference.
SIGNAL_AT_CALL = """
import json, os, signal, sys
CALLS = {"flock", "fsync", "mkdir", "open", "rename", "replace", "rmdir", "unlink", "utime"}
made = []
def touches_disk(function):
    if type(function.__self__).__module__ == "_io":  # buffered: what was written goes to the system here
        return function.__name__ in ("flush", "__exit__") and function.__self__.writable()
    return function.__name__ in CALLS and function.__module__ in ("posix", "fcntl", "_io", "io")
def signal_at(at, number):
    def hook(frame, event, function):
        if event == "c_call" and touches_disk(function):
            if len(made) == at:
                os.kill(os.getpid(), number)
            made.append(function.__name__)
    sys.setprofile(hook)
"""

# argv: store, log of computations, name, keys, length of the lease, and JSON of what is to go wrong
PRODUCER = (
    SIGNAL_AT_CALL
    + r"""
import time
from pathlib import Path
from vsrprune.store.atomic import write_atomically
from vsrprune.store.store import Store
root, log, name, keys, lease, fault = Path(sys.argv[1]), *sys.argv[2:5], float(sys.argv[5]), json.loads(sys.argv[6])
def make(folder, work):
    checkpoint = work / "checkpoint"
    found = checkpoint.read_text() if checkpoint.is_file() else "nothing"
    with open(log, "a") as stream:
        stream.write(f"{folder.name[1:17]} {name} {found}\n")
    write_atomically(checkpoint, "step 40")
    if "in_make" in fault:
        os.kill(os.getpid(), fault["in_make"])
    write_atomically(work / "checkpoint", "step 40")  # makes its folder if that is gone, as Lightning does
    (folder / "values.json").write_text(json.dumps(name))
    (folder / "crops").mkdir()
    (folder / "crops" / "a.png").write_bytes(bytes(range(256)))
store = Store(root, lambda text: print("warning:", text, flush=True), lambda text: print(text, flush=True), lease)
deadline = time.monotonic() + 60
while not Path(fault.get("wait_for", "/")).exists():
    assert time.monotonic() < deadline
    time.sleep(0.001)
if "at" in fault:
    signal_at(fault["at"], fault["signal"])
got = {key: store.produce("score", key, {}, make).json("values.json") for key in keys.split(",")}
sys.setprofile(None)
print(json.dumps({"got": got, "calls": made}), flush=True)
"""
)


def start_producer(
    store: Path, name: str, *, keys: list[str] | None = None, lease: float = 3600, **fault: object
) -> Script:
    """A process that produces `keys` in `store` and writes `name` into what it makes and into the log."""
    arguments = [str(store), str(log_of(store)), name, ",".join(keys or [KEY]), str(lease), json.dumps(fault)]
    return Script(["-c", PRODUCER, *arguments], ROOT)


def ended(process: Script, code: int = 0) -> str:
    """What the process printed; it must end with `code`."""
    try:
        output, complaint = process.communicate(timeout=PATIENCE)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.returncode == code, output + complaint
    return output


def last_line(output: str) -> dict[str, object]:
    values: dict[str, object] = json.loads(output.splitlines()[-1])
    return values


def log_of(store: Path) -> Path:
    return store.with_name(f"{store.name}.log")


def computations(store: Path) -> list[list[str]]:
    """[key, name of the process, checkpoint it found] of every computation that began."""
    path = log_of(store)
    return [line.split(maxsplit=2) for line in path.read_text().splitlines()] if path.is_file() else []


def is_published(store: Path) -> bool:
    return (store / STAGE / KEY / MANIFEST).is_file()


def litter(store: Path) -> list[str]:
    """Everything in the store but sound artifacts of the stage and the mutex of the leases."""
    warnings: list[str] = []
    checked = Store(store, warnings.append)
    sound = [path for path in (store / STAGE).iterdir() if checked.find(STAGE, path.name)]
    files = (path for path in store.rglob("*") if path.is_file() or not any(path.iterdir()))
    kept = {store / "leases" / ".mutex", store / "unfinished"}
    left = [path for path in files if path not in kept and not any(path.is_relative_to(folder) for folder in sound)]
    return [*warnings, *(path.relative_to(store).as_posix() for path in left)]


def calls_of_a_computation(store: Path) -> list[str]:
    """Names of the system calls of an undisturbed `produce`, in their order."""
    calls = last_line(ended(start_producer(store, "counted", at=-1, signal=0)))["calls"]
    assert isinstance(calls, list)
    return calls


@pytest.fixture
def abandoned(tmp_path: Path) -> Path:
    """A store in which a process was killed after it had written a checkpoint."""
    store = tmp_path / "abandoned"
    ended(start_producer(store, "early", in_make=signal.SIGKILL), -signal.SIGKILL)
    log_of(store).unlink()
    assert len(list(store.glob("unfinished/*/*/checkpoint"))) == 1
    return store


# kill -9


def after_a_kill(abandoned: Path, store: Path, at: int) -> list[str]:
    """What is wrong after one process was killed before its call number `at` and a second one did the same work."""
    shutil.copytree(abandoned, store)
    ended(start_producer(store, "first", at=at, signal=signal.SIGKILL), -signal.SIGKILL)
    published = is_published(store)
    got = last_line(ended(start_producer(store, "second")))["got"]
    wrong = litter(store)
    if got != {KEY: "first" if published else "second"}:
        wrong.append(f"the second process got {got}")
    began = computations(store)
    if [name for _, name, _ in began if name == "second"] != ([] if published else ["second"]):
        wrong.append(f"computations: {began}")
    wrong += [f"{name} found no checkpoint" for _, name, found in began if found != "step 40"]
    return wrong


def test_kill_9_at_every_point_of_a_computation(tmp_path: Path, abandoned: Path) -> None:
    """The second process goes on from the checkpoint, publishes if the first had not, and leaves nothing behind."""
    counted = tmp_path / "counted"
    shutil.copytree(abandoned, counted)
    calls = calls_of_a_computation(counted)
    assert {"flock", "fsync", "mkdir", "rename", "rmdir", "unlink"} <= set(calls)
    assert len(calls) >= 20
    wrong = {
        f"killed before {name}, call {at} of {len(calls)}": found
        for at, name in enumerate(calls)
        if (found := after_a_kill(abandoned, tmp_path / f"store{at}", at))
    }
    assert wrong == {}


def test_clean_takes_what_a_killed_process_left(abandoned: Path, tmp_path: Path) -> None:
    """Also where nobody computes that stage ever again."""
    needed = "f" * 16
    ended(start_producer(abandoned, "other", keys=[needed]))
    (tmp_path / "runs" / "job").mkdir(parents=True)
    (tmp_path / "runs" / "job" / "result.json").write_text(json.dumps({"stages": {STAGE: needed}}))
    assert len(list((abandoned / STAGE).iterdir())) == 2
    clean_store(Store(abandoned, print), tmp_path / "runs", True, Console(file=io.StringIO()))
    assert [path.name for path in (abandoned / STAGE).iterdir()] == [needed]
    assert not any((abandoned / "unfinished").iterdir())


WRITER = (
    SIGNAL_AT_CALL
    + r"""
import resource
from pathlib import Path
from vsrprune.store.atomic import write_atomically
path, words, fault = Path(sys.argv[1]), sys.argv[2].split(), json.loads(sys.argv[3])
if "largest_file" in fault:  # one byte more, and the kernel kills in the middle of a write
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (fault["largest_file"], fault["largest_file"]))
if "at" in fault:
    signal_at(fault["at"], fault["signal"])
for _ in range(fault.get("rounds", 1)):
    for word in words:
        write_atomically(path, f"{word}\n" * 30_000)
sys.setprofile(None)
print(json.dumps({"calls": made}))
"""
)
OLD, NEW = "old\n" * 30_000, "newer\n" * 30_000


def start_writer(path: Path, words: str, **fault: object) -> Script:
    """A process that fills the file with each of the words in turn."""
    arguments = [str(path), words, json.dumps(fault)]
    return Script(["-c", WRITER, *arguments], ROOT)


def test_kill_9_at_every_point_of_an_atomic_write(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    calls = last_line(ended(start_writer(path, "newer", at=-1, signal=0)))["calls"]
    assert isinstance(calls, list)
    assert {"flush", "fsync", "replace"} <= set(calls)
    seen = []
    for at in range(len(calls)):
        write_atomically(path, OLD)
        ended(start_writer(path, "newer", at=at, signal=signal.SIGKILL), -signal.SIGKILL)
        seen.append(path.read_text())
    switch = calls.index("replace")
    assert [{OLD: "old", NEW: "new"}.get(text, "torn") for text in seen] == [
        "old" if at <= switch else "new" for at in range(len(calls))
    ]


def test_a_death_in_the_middle_of_a_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, OLD)
    sizes = random.Random(0).sample(range(1, len(NEW)), 5)
    for size in sizes:
        ended(start_writer(path, "newer", largest_file=size), -signal.SIGXFSZ)
        assert path.read_text() == OLD
    torn = [beside.stat().st_size for beside in tmp_path.iterdir() if beside != path]
    assert sorted(torn) == sorted(sizes)  # it was the middle of a write
    ended(start_writer(path, "newer"))
    assert path.read_text() == NEW


def test_readers_see_whole_files_while_they_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, OLD)
    writer = start_writer(path, "newer old", rounds=50)
    seen = set()
    deadline = time.monotonic() + PATIENCE
    while writer.poll() is None and time.monotonic() < deadline:
        seen.add(path.read_text())
    ended(writer)
    assert seen <= {OLD, NEW}
    assert path.read_text() == OLD


# Races


def test_twenty_processes_compute_five_keys_once_each(tmp_path: Path) -> None:
    store, gate = tmp_path / "store", tmp_path / "gate"
    keys = [f"{number:016x}" for number in range(5)]
    racers = []
    for number in range(20):
        order = random.Random(number).sample(keys, len(keys))
        racers.append(start_producer(store, f"racer{number}", keys=order, wait_for=str(gate)))
    gate.touch()
    outputs = [ended(racer) for racer in racers]
    got = [last_line(output)["got"] for output in outputs]
    assert isinstance(got[0], dict)
    assert set(got[0]) == set(keys)
    assert all(others == got[0] for others in got)
    assert sorted((key, name) for key, name, _ in computations(store)) == sorted(got[0].items())
    assert litter(store) == []
    assert not any("warning" in output for output in outputs)


# Stalls


def wait_until_stopped(process: Script) -> None:
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see a process stopped")


@needs_proc
@pytest.mark.parametrize("moment", ["in make", "before the manifest", "before publishing"])
def test_a_stalled_holder_does_not_publish_over_the_one_that_took_over(tmp_path: Path, moment: str) -> None:
    store = tmp_path / "store"
    fault: dict[str, int] = {"in_make": signal.SIGSTOP}
    if moment != "in make":
        calls = calls_of_a_computation(tmp_path / "counted")
        # Before the lock that publishing needs, not while holding it: then everybody waits.
        last = "replace" if moment == "before the manifest" else "flock"
        at = max(index for index in range(calls.index("rename")) if calls[index] == last)
        fault = {"at": at, "signal": signal.SIGSTOP}
    sleeper = start_producer(store, "sleeper", lease=0.5, **fault)
    try:
        wait_until_stopped(sleeper)
        assert not is_published(store)
        output = ended(start_producer(store, "other", lease=0.5))
        assert last_line(output)["got"] == {KEY: "other"}
        manifest = (store / STAGE / KEY / MANIFEST).read_bytes()
        sleeper.send_signal(signal.SIGCONT)
        output = ended(sleeper)
    finally:
        sleeper.send_signal(signal.SIGKILL)
    assert f"warning: {STAGE} {KEY} went to another process while this one was stalled" in output
    assert last_line(output)["got"] == {KEY: "other"}
    assert (store / STAGE / KEY / MANIFEST).read_bytes() == manifest
    assert [(name, found) for _, name, found in computations(store)] == [
        ("sleeper", "nothing"),
        ("other", "step 40"),
    ]
    assert litter(store) == []


@needs_proc
def test_a_holder_that_stalls_after_publishing_keeps_nobody_waiting(tmp_path: Path) -> None:
    calls = calls_of_a_computation(tmp_path / "counted")
    store = tmp_path / "store"
    sleeper = start_producer(store, "sleeper", at=calls.index("rmdir", calls.index("rename")), signal=signal.SIGSTOP)
    try:
        wait_until_stopped(sleeper)
        assert last_line(ended(start_producer(store, "other")))["got"] == {KEY: "sleeper"}
        sleeper.send_signal(signal.SIGCONT)
        output = ended(sleeper)
    finally:
        sleeper.send_signal(signal.SIGKILL)
    assert "warning" not in output
    assert [name for _, name, _ in computations(store)] == ["sleeper"]
    assert litter(store) == []


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lease_of_another_host_is_taken_over_at_its_end_and_not_before(tmp_path: Path) -> None:
    store, seconds = tmp_path / "store", 3600
    lease = store / "leases" / f"{STAGE}-{KEY}.json"
    lease.parent.mkdir(parents=True)
    # A process number that is alive here says nothing about another host.
    lease.write_text(json.dumps({"host": "elsewhere/boot/1", "pid": os.getpid(), "started": "1", "token": "away"}))

    def age(by: float) -> None:
        os.utime(lease, (time.time() - by, time.time() - by))

    age(seconds - 600)
    producer = start_producer(store, "here", lease=seconds)
    try:
        eventually(lambda: "\n" in producer.printed())
        assert (
            producer.printed()
            == f"{STAGE} {KEY} is being computed by process {os.getpid()} on elsewhere; waiting for it\n"
        )
        mutex = lease.with_name(".mutex")
        for _ in range(2):  # it looks again, and waits on
            looked = mutex.stat().st_mtime_ns
            eventually(lambda looked=looked: mutex.stat().st_mtime_ns > looked)
        assert producer.poll() is None
        assert json.loads(lease.read_text())["token"] == "away"
        assert computations(store) == []
        age(seconds + 1)
        assert producer.wait(timeout=PATIENCE) == 0
    finally:
        producer.send_signal(signal.SIGKILL)
    assert [name for _, name, _ in computations(store)] == ["here"]
    assert litter(store) == []


# Every file of a finished store, damaged

NETWORK = (MANIFEST, "network.json", "network.safetensors")
FILES = {
    "flow": (*NETWORK, "metrics.jsonl"),
    "pretrain": (*NETWORK, "metrics.jsonl"),
    "reference": (
        MANIFEST,
        "reference.json",
        *(f"crops/chelsea_0_{kind}.png" for kind in ("bicubic", "dense", "frame", "lr", "truth")),
    ),
    "score": (MANIFEST, "scores.json"),
    "select": (MANIFEST, "selection.json"),
    "sparsify": (*NETWORK, "metrics.jsonl", "gates.json"),
    "prune": (*NETWORK, "prune.json"),
    "finetune": (*NETWORK, "metrics.jsonl"),
    "evaluate": (MANIFEST, "evaluation.json", "crops/chelsea_0_pruned.png"),
    "measure": (MANIFEST, "measured.json"),
}


PLACES = [(stage, name) for stage, names in FILES.items() for name in names]
CASES = [(*place, kind) for place in PLACES for kind in DAMAGE]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store and runs of a finished job."""
    folder = tmp_path_factory.mktemp("finished")
    done = run_py(*minimal_overrides(folder), "tracking=none")
    assert done.returncode == 0, done.stderr
    return folder


def damaged_copy(finished: Path, folder: Path, stage: str, name: str, kind: str) -> tuple[Path, str]:
    """The folder with one file damaged, at a place that depends on the case alone, and the artifact's key."""
    shutil.copytree(finished, folder, symlinks=True, dirs_exist_ok=True)
    (artifact,) = (folder / "store" / stage).iterdir()
    DAMAGE[kind](artifact / name, random.Random(f"{stage} {name} {kind}"))
    return folder, artifact.name


def result_of(folder: Path) -> str:
    (result,) = folder.glob("runs/**/result.json")
    return result.read_text()


def test_every_published_file_is_among_the_cases(finished: Path) -> None:
    published = {
        stage.name: {path.relative_to(artifact).as_posix() for path in artifact.rglob("*") if path.is_file()}
        for stage in (finished / "store").iterdir()
        for artifact in stage.glob(f"*/{MANIFEST}")
        for artifact in [artifact.parent]
    }
    assert published == {stage: set(names) for stage, names in FILES.items()}


@pytest.mark.parametrize(("stage", "name", "kind"), CASES)
def test_a_damaged_file_is_named_and_its_artifact_set_aside(
    finished: Path, tmp_path: Path, stage: str, name: str, kind: str
) -> None:
    folder, key = damaged_copy(finished, tmp_path, stage, name, kind)
    left = {path.name for path in (folder / "store" / stage / key).rglob("*")}
    warnings: list[str] = []
    store = Store(folder / "store", warnings.append)
    assert store.find(stage, key) is None
    (warning,) = warnings
    assert warning.startswith(f"{stage} {key} is damaged: {name} ")
    aside = store.root / "damaged" / f"{stage}-{key}-1"
    assert {path.name for path in aside.rglob("*")} == left
    assert not (store.root / stage / key).exists()


# `verify` finds damage as loading does, by the same check; so every file once, and the kinds of damage in turn.
@pytest.mark.parametrize(
    ("stage", "name", "kind"), [(*place, kind) for place, kind in zip(PLACES, itertools.cycle(DAMAGE))]
)
def test_verify_finds_a_damaged_file(finished: Path, tmp_path: Path, stage: str, name: str, kind: str) -> None:
    folder, key = damaged_copy(finished, tmp_path, stage, name, kind)
    warnings: list[str] = []
    store = Store(folder / "store", warnings.append)
    console = Console(file=io.StringIO(), width=100)
    assert not verify_store(store, console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == f"{len(FILES)} artifacts checked, 1 damaged\n"
    assert [warning.split(" is damaged")[0] for warning in warnings] == [f"{stage} {key}"]
    assert (store.root / "damaged" / f"{stage}-{key}-1").is_dir()


DRAWN = random.Random(0)
AGAIN = [
    (stage, DRAWN.choice(FILES[stage]), kind)
    for stage, kind in zip(DRAWN.sample(sorted(FILES), len(DAMAGE)), DAMAGE, strict=True)
]


@pytest.mark.parametrize(("stage", "name", "kind"), AGAIN)
def test_the_job_computes_the_damaged_stage_alone_and_ends_the_same(
    finished: Path, tmp_path: Path, stage: str, name: str, kind: str
) -> None:
    folder, key = damaged_copy(finished, tmp_path, stage, name, kind)
    done = run_py(*minimal_overrides(folder), "tracking=none")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count(f"warning: {stage} {key} is damaged: {name} ") == 1
    words = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in words if line[1:2] == ["done"]] == [stage]
    assert {line[0] for line in words if line[1:2] == ["reused"]} == set(FILES) - {stage}
    assert result_of(folder) == result_of(finished)


def test_a_dry_run_does_not_stumble_over_a_damaged_manifest(finished: Path, tmp_path: Path, no_torch: Path) -> None:
    """Its estimate of time and disk reads the manifests of other jobs' stages."""
    folder, _ = damaged_copy(finished, tmp_path, "finetune", MANIFEST, "cut")
    plan = run_py("ratio=0.3", "dry_run=true", *minimal_overrides(folder), path=[no_torch])
    assert plan.returncode == 0, plan.stderr
    assert "finetune" in plan.stdout


@pytest.mark.parametrize("action", ["list", "clean"])
def test_a_damaged_result_is_named_and_costs_nothing(
    finished: Path, tmp_path: Path, no_torch: Path, action: str
) -> None:
    """`list` and `clean` read in the results which artifacts are needed."""
    shutil.copytree(finished, tmp_path, symlinks=True, dirs_exist_ok=True)
    (result,) = tmp_path.glob("runs/**/result.json")
    cut(result, random.Random(0))
    before = {path for path in (tmp_path / "store").rglob("*") if path.is_file()}
    failed = run_py(f"store.action={action}", "store.yes=true", *minimal_overrides(tmp_path), path=[no_torch])
    assert failed.returncode == 2, failed.stdout
    (line,) = failed.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert str(result) in line
    assert {path for path in (tmp_path / "store").rglob("*") if path.is_file()} == before
