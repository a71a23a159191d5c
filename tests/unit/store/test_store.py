"""The store: what is published is whole, what is damaged is noticed, what is unfinished can go on."""

import contextlib
import errno
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vsrprune.store.atomic import explain_os_error, write_atomically, write_cache, write_json
from vsrprune.store.store import MANIFEST, Store, content_key, is_key

KEY = "0123456789abcdef"


class Warnings(list):
    def __call__(self, text):
        self.append(text)


@pytest.fixture
def warnings():
    return Warnings()


@pytest.fixture
def store(tmp_path, warnings):
    return Store(tmp_path / "store", warnings)


def make_plain(folder, work):
    (folder / "values.json").write_text('{"psnr": 31.5}')
    (folder / "crops").mkdir()
    (folder / "crops" / "a.png").write_bytes(bytes(range(256)))


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# content_key


def test_key_ignores_the_order_of_names():
    one = {"stage": "select", "ratio": 0.5, "model": {"channels": 16, "blocks": 3}}
    two = {"model": {"blocks": 3, "channels": 16}, "ratio": 0.5, "stage": "select"}
    assert list(one) != list(two)
    assert content_key(one) == content_key(two)


def test_key_ignores_how_a_float_was_computed():
    assert 0.1 * 7 != 0.7
    assert content_key({"ratio": 0.7000000000000001}) == content_key({"ratio": 0.7})
    assert content_key({"ratio": 0.1 * 7, "deep": [{"lr": 0.1 * 3}]}) == content_key(
        {"ratio": 0.7, "deep": [{"lr": 0.3}]}
    )


def test_key_ignores_the_kind_of_sequence():
    assert content_key({"size": (180, 320)}) == content_key({"size": [180, 320]})


def test_keys_differ_with_the_values():
    settings = [
        {"ratio": 0.7},
        {"ratio": 0.70001},
        {"ratio": 0.7000001},
        {"ratio": 1},
        {"ratio": True},
        {"ratio": "1"},
        {"ratio": None},
        {"rati": 0.7},
        {"ratio": [0.7]},
        {"ratio": {"a": 0.7}},
        {"size": [180, 320]},
        {"size": [320, 180]},
        {},
    ]
    assert len({content_key(values) for values in settings}) == len(settings)


def test_key_is_a_short_hash_of_canonical_json():
    expected = hashlib.sha256(b'{"a":1,"b":[0.7,"x"],"c":{"d":null}}').hexdigest()[:16]
    assert content_key({"c": {"d": None}, "b": (0.7, "x"), "a": 1}) == expected


# Publishing


def test_an_artifact_is_published_with_its_manifest(store, tmp_path, warnings):
    artifact = store.produce("score", KEY, {"score": "l1", "ratio": 0.7000000000000001}, make_plain)
    assert artifact.folder == tmp_path / "store" / "score" / KEY
    assert files_below(artifact.folder) == ["crops/a.png", MANIFEST, "values.json"]
    assert artifact.json("values.json") == {"psnr": 31.5}
    assert artifact.path("crops/a.png").read_bytes() == bytes(range(256))
    assert artifact.seconds >= 0
    manifest = artifact.json(MANIFEST)
    assert manifest.pop("manifest_sha256")
    assert manifest == artifact.manifest
    assert (manifest["stage"], manifest["key"]) == ("score", KEY)
    assert manifest["settings"] == {"score": "l1", "ratio": 0.7}
    assert set(manifest["files"]) == {"values.json", "crops/a.png"}
    assert manifest["files"]["crops/a.png"] == {
        "bytes": 256,
        "sha256": hashlib.sha256(bytes(range(256))).hexdigest(),
    }
    assert warnings == []


def test_a_published_artifact_is_found_by_another_store(store, tmp_path):
    assert not store.exists("score", KEY)
    assert store.find("score", KEY) is None
    artifact = store.produce("score", KEY, {}, make_plain)
    other = Store(tmp_path / "store", Warnings())
    assert other.exists("score", KEY)
    assert other.find("score", KEY) == artifact
    assert not other.exists("select", KEY)
    assert other.find("score", KEY[::-1]) is None


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_make_leaves_nothing_to_read(store, tmp_path, error):
    def make(folder, work):
        make_plain(folder, work)
        assert not store.exists("score", KEY)
        raise error

    with pytest.raises(error):
        store.produce("score", KEY, {}, make)
    assert not store.exists("score", KEY)
    assert store.find("score", KEY) is None
    assert files_below(tmp_path / "store") == ["leases/.mutex"]
    assert list((tmp_path / "store" / "score").iterdir()) == []


def test_nothing_is_readable_while_it_is_made(store, tmp_path):
    def make(folder, work):
        make_plain(folder, work)
        assert folder != tmp_path / "store" / "score" / KEY
        assert not store.exists("score", KEY)
        assert store.find("score", KEY) is None

    store.produce("score", KEY, {}, make)
    assert store.exists("score", KEY)
    assert [path.name for path in (tmp_path / "store" / "score").iterdir()] == [KEY]


def test_the_workdir_survives_a_failed_make_and_is_gone_after_publishing(store):
    def fail(folder, work):
        (work / "last.ckpt").write_text("step 40")
        raise RuntimeError

    def go_on(folder, work):
        make_plain(folder, work)
        assert (work / "last.ckpt").read_text() == "step 40"

    with pytest.raises(RuntimeError):
        store.produce("score", KEY, {}, fail)
    (work,) = (store.root / "unfinished" / f"score-{KEY}").iterdir()
    assert (work / "last.ckpt").read_text() == "step 40"
    store.produce("score", KEY, {}, go_on)
    assert not work.parent.exists()


def run_together(*calls):
    """Run the calls in threads; their results in the order in which they ended. Raises what one of them raised."""
    results, errors = [], []

    def run(call):
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def test_two_publishers_at_once_both_succeed(store, warnings):
    both_are_making = threading.Barrier(2, timeout=0.5)

    def make(folder, work):
        make_plain(folder, work)
        with contextlib.suppress(threading.BrokenBarrierError):  # a store may also let one of them wait
            both_are_making.wait()

    def publish():
        return store.produce("score", KEY, {}, make)

    one, two = run_together(publish, publish)
    assert one.folder == two.folder
    assert one.json("values.json") == {"psnr": 31.5}
    assert [path.name for path in one.folder.parent.iterdir()] == [KEY]
    assert store.find("score", KEY) is not None
    assert warnings == []


def publish_slowly_and_fast(store, make_slowly):
    """Begin a publisher, and another one that may publish while the first is still in `make_slowly`."""
    slow_has_begun, fast_is_done = threading.Event(), threading.Event()

    def make(folder, work):
        slow_has_begun.set()
        fast_is_done.wait(timeout=0.5)
        make_slowly(folder, work)

    def fast():
        slow_has_begun.wait()
        artifact = store.produce("score", KEY, {}, make_plain)
        fast_is_done.set()
        return artifact

    return run_together(lambda: store.produce("score", KEY, {}, make), fast)


def test_a_slower_publisher_of_the_same_key_succeeds_too(store, warnings):
    one, two = publish_slowly_and_fast(store, make_plain)
    assert one.folder == two.folder
    assert store.find("score", KEY).json("values.json") == {"psnr": 31.5}
    assert [path.name for path in one.folder.parent.iterdir()] == [KEY]
    assert warnings == []


def test_a_slower_publisher_keeps_its_workdir(store):
    def make_slowly(folder, work):
        (work / "last.ckpt").write_text("step 40")
        make_plain(folder, work)

    assert len(publish_slowly_and_fast(store, make_slowly)) == 2


# Damage


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def halve(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "truncated": ("crops/a.png", truncate, r"crops/a\.png has 255 bytes instead of 256"),
    "grown": ("crops/a.png", lambda path: path.write_bytes(bytes(257)), r"crops/a\.png has 257 bytes instead of 256"),
    "flipped": ("crops/a.png", flip_bit, r"crops/a\.png fails its checksum"),
    "missing": ("values.json", Path.unlink, r"values\.json is missing"),
    "manifest cut": (MANIFEST, halve, r"manifest\.json cannot be read"),
    "manifest missing": (MANIFEST, Path.unlink, r"manifest\.json cannot be read"),
    "manifest empty": (MANIFEST, lambda path: path.write_text(""), r"manifest\.json cannot be read"),
    "manifest not text": (MANIFEST, lambda path: path.write_bytes(b"\xff\xfe"), r"manifest\.json cannot be read"),
    "manifest a list": (MANIFEST, lambda path: path.write_text("[]"), r"manifest\.json cannot be read"),
    "manifest of nothing": (MANIFEST, lambda path: path.write_text("{}"), r"manifest\.json cannot be read"),
}


@pytest.mark.parametrize(("name", "damage", "complaint"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_set_aside_and_warned_about_by_name(store, warnings, tmp_path, name, damage, complaint):
    artifact = store.produce("score", KEY, {}, make_plain)
    damage(artifact.path(name))
    left = {path: artifact.path(path).read_bytes() for path in files_below(artifact.folder)}
    assert store.find("score", KEY) is None
    aside = tmp_path / "store" / "damaged" / f"score-{KEY}-1"
    assert {path: (aside / path).read_bytes() for path in files_below(aside)} == left
    (warning,) = warnings
    assert warning.startswith(f"score {KEY} is damaged: ")
    assert re.search(complaint, warning)
    assert str(aside) in warning
    assert not store.exists("score", KEY)
    assert store.find("score", KEY) is None
    assert len(warnings) == 1  # said once
    store.produce("score", KEY, {}, make_plain)
    assert store.find("score", KEY) is not None
    assert len(warnings) == 1


def test_damaged_artifacts_are_kept_side_by_side(store, warnings, tmp_path):
    for _ in range(3):
        flip_bit(store.produce("score", KEY, {}, make_plain).path("values.json"))
        assert store.find("score", KEY) is None
    names = sorted(path.name for path in (tmp_path / "store" / "damaged").iterdir())
    assert names == [f"score-{KEY}-{number}" for number in (1, 2, 3)]
    assert len(warnings) == 3


def test_a_flipped_bit_in_the_name_of_a_manifest_field_is_noticed(store):
    artifact = store.produce("score", KEY, {}, make_plain)
    manifest = artifact.path(MANIFEST)
    manifest.write_text(manifest.read_text().replace('"seconds"', '"secones"'))
    found = store.find("score", KEY)
    assert found is None or found.seconds >= 0


# Files


def test_write_atomically_replaces_the_whole_file(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    write_atomically(path, "a long first version")
    write_atomically(path, "short")
    assert path.read_text() == "short"
    assert files_below(tmp_path) == ["new/folder/file.txt"]


def test_others_may_read_what_is_written(store, tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file.txt", "text")
        artifact = store.produce("score", KEY, {}, make_plain)
    finally:
        os.umask(before)
    for path in (tmp_path / "file.txt", *(artifact.path(name) for name in files_below(artifact.folder))):
        assert path.stat().st_mode & 0o777 == 0o644
    assert artifact.folder.stat().st_mode & 0o777 == 0o755


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old and long")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old and long"


def test_write_atomically_keeps_the_old_file_if_the_text_cannot_be_written(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert files_below(tmp_path) == ["file.txt"]


SMALL_FILES_ONLY = """
import pathlib, resource, signal, sys
from vsrprune.store.atomic import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(pathlib.Path(sys.argv[1]), "new" * 1000)
except OSError as error:
    print(error.errno)
"""


def test_write_atomically_keeps_the_old_file_if_the_system_refuses_the_new_one(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    command = [sys.executable, "-c", SMALL_FILES_ONLY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(errno.EFBIG)
    assert path.read_text() == "old"
    assert files_below(tmp_path) == ["file.txt"]


def test_write_json_round_trip(tmp_path):
    value = {"psnr": 31.25, "clips": ["a", None, True], "ü": {"1": 2}}
    write_json(tmp_path / "values.json", value)
    text = (tmp_path / "values.json").read_text()
    assert json.loads(text) == value
    assert text.endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_write_json_refuses_numbers_that_are_not_finite(tmp_path, number):
    write_json(tmp_path / "values.json", {"psnr": 31.25})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "values.json", {"psnr": [number]})
    assert json.loads((tmp_path / "values.json").read_text()) == {"psnr": 31.25}


# Errors of the system


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_explained_in_one_line():
    def fill():
        with open("/dev/full", "wb", buffering=0) as stream:
            stream.write(b"one byte too many")

    with pytest.raises(OSError, match="No space left") as caught:
        fill()
    explanation = explain_os_error(caught.value)
    assert explanation.startswith("the disk is full")
    assert "run the same command again" in explanation
    assert "\n" not in explanation


@pytest.mark.parametrize(
    ("number", "words", "advice"),
    [
        (errno.ENOSPC, "the disk is full", "free some space"),
        (errno.EDQUOT, "your disk quota is used up", "ask for a larger quota"),
    ],
)
def test_a_full_disk_or_quota_names_the_file_and_has_advice_of_its_own(number, words, advice):
    explanation = explain_os_error(OSError(number, os.strerror(number), "store/x/weights"))
    assert explanation.startswith(f"{words} while writing store/x/weights; ")
    assert advice in explanation
    assert "run the same command again" in explanation


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_cannot_be_written_names_the_knobs(number):
    explanation = explain_os_error(OSError(number, os.strerror(number), "store/x"))
    assert explanation.startswith("no permission for store/x")
    assert "store_dir=" in explanation
    assert "runs_dir=" in explanation


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    write_cache(tmp_path / "file" / "cache.json", "{}")  # a file stands where its folder would be
    write_cache(tmp_path / "cache.json", "{}")
    assert (tmp_path / "cache.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.json", "file"]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINTR, errno.EIO])
def test_other_errors_are_not_explained(number):
    assert explain_os_error(OSError(number, os.strerror(number))) is None


@pytest.mark.parametrize(
    "text", ["", "a", "../../../etc", "0123456789abcde/", "0123456789ABCDEF", "0" * 17, "0" * 16 + "\n", 1]
)
def test_what_is_no_key_of_a_file_is_told(text: object) -> None:
    assert is_key(content_key({}))
    assert not is_key(text)


def test_a_file_that_holds_its_text_already_is_left_as_it_is(tmp_path):
    path = tmp_path / "file"
    for text in ("ä\n", "b\n", "bc\n"):
        write_atomically(path, text)
        written = path.stat()
        write_atomically(path, text)
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
        assert path.read_text("utf-8") == text
    path.write_text("bd\n")  # of the same length
    write_atomically(path, "bc\n")
    assert path.read_text() == "bc\n"


def test_a_link_becomes_a_file_even_if_it_leads_to_the_same_text(tmp_path):
    (tmp_path / "other").write_text("a\n")
    (tmp_path / "file").symlink_to("other")
    write_atomically(tmp_path / "file", "a\n")
    assert not (tmp_path / "file").is_symlink()
