"""What is on disk of a job at any moment at which it may be killed."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vsrprune.errors import UserError
from vsrprune.host.failures import (
    CARD,
    RETRY,
    FailureCard,
    JobState,
    card_of_error,
    card_of_exit,
    card_of_lost_worker,
    read_state,
    retry_command,
    retry_line,
)
from vsrprune.host.processes import OUTPUT


def test_a_state_is_never_seen_half_written(tmp_path: Path) -> None:
    state = JobState(tmp_path)
    state.stage("pretrain")
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(read_state(tmp_path)[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(2000):
        state.stage("pretrain")
    done.set()
    watcher.join()
    assert seen == {"pretrain"}


@pytest.mark.parametrize(
    ("number", "cause", "advice"),
    [
        (errno.ENOSPC, "the disk is full while writing store/x", "free some space"),
        (errno.EDQUOT, "your disk quota is used up while writing store/x", "ask for a larger quota"),
        (errno.EACCES, "no permission for store/x", "folders to write into are chosen by store_dir=..."),
        (errno.EROFS, "no permission for store/x", "folders to write into are chosen by store_dir=..."),
    ],
)
def test_the_advice_of_a_card_is_that_of_the_cause(tmp_path: Path, number: int, cause: str, advice: str) -> None:
    card = card_of_error(OSError(number, os.strerror(number), "store/x"), tmp_path, "python src/run.py")
    assert card.cause == cause
    assert card.advice.startswith(advice) or advice in card.advice
    assert ("space" in card.advice) == (number == errno.ENOSPC)


def test_a_damaged_card_is_named(tmp_path: Path) -> None:
    card = FailureCard("pretrain", 10, "the loss is not finite", "lower it", "python src/run.py")
    card.save(tmp_path)
    assert FailureCard.load(tmp_path) == card
    path = tmp_path / CARD
    path.write_text(path.read_text().replace("10", "11"))
    with pytest.raises(UserError, match=r"failure\.json is damaged \(it fails its checksum\)"):
        FailureCard.load(tmp_path)


SHOWS = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:]]))"
HOSTILE = [
    "data.path='/my clips/$HOME/`x`'",
    'ratios="{fusion: 3}"',
    "hydra.run.dir='runs/mine/rsc=true,ratio=0.3'",
    'tracking.project=it\'s "all" \\ of it!',
    "data.val=[a,b]",
    "model.file=größe.py",
]


@pytest.mark.parametrize("flags", [[], ["--config-path", "/some where/conf", "--config-name", "config"]])
def test_the_script_gives_the_very_arguments_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    place = tmp_path / "where it's typed"
    place.mkdir()
    (place / "shows.py").write_text(SHOWS)
    monkeypatch.chdir(place)
    folder = tmp_path / "runs" / "rsc=true,ratio=0.3"
    command = retry_command(["shows.py", *flags, *HOSTILE])
    assert shlex.split(command) == ["python", "shows.py", *flags, *HOSTILE]
    FailureCard("pretrain", 1, "cause", "advice", command).save(folder)
    environment = {"PATH": "/usr/bin:/bin"}  # without the environment that was active
    for script in (retry_line(folder), shlex.quote(str(folder / RETRY))):
        done = subprocess.run(script, shell=True, cwd="/", env=environment, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [str(place), [*flags, *HOSTILE]]
    lines = (folder / RETRY).read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[3] == f"exec {sys.executable} shows.py \\"
    assert (
        lines[4 : 4 + len(flags) // 2]
        == [
            "    --config-path '/some where/conf' \\",
            "    --config-name config \\",
        ][: len(flags) // 2]
    )
    assert len(lines) == 4 + len(flags) // 2 + len(HOSTILE)
    assert "    \"hydra.run.dir='runs/mine/rsc=true,ratio=0.3'\" \\" in lines
    assert json.loads((folder / CARD).read_text())["retry"] == retry_line(folder)


def test_the_script_of_the_installed_command_needs_no_path(tmp_path: Path) -> None:
    FailureCard("pretrain", 1, "cause", "advice", "vsrprune run ratio=0.3").save(tmp_path)
    text = (tmp_path / RETRY).read_text()
    assert text.endswith(f"exec {sys.executable} -m vsrprune run \\\n    ratio=0.3\n")
    FailureCard("pretrain", 1, "cause", "advice", "python -m vsrprune run ratio=0.3").save(tmp_path)
    assert (tmp_path / RETRY).read_text() == text


def test_a_try_that_begins_leaves_neither_card_nor_script(tmp_path: Path) -> None:
    FailureCard("pretrain", 1, "cause", "advice", "python src/run.py").save(tmp_path)
    assert {CARD, RETRY} <= {path.name for path in tmp_path.iterdir()}
    JobState(tmp_path)
    assert not {CARD, RETRY} & {path.name for path in tmp_path.iterdir()}


def test_a_file_that_is_gone_is_named_with_its_trace(tmp_path: Path) -> None:
    card = card_of_error(
        FileNotFoundError(errno.ENOENT, "No such file", "clips/a/000.png"), tmp_path, "python src/run.py"
    )
    assert card.cause == "clips/a/000.png was there when the job was planned, and is gone"
    assert "put it back" in card.advice
    assert "FileNotFoundError" in card.trace


def test_the_advice_names_a_log_where_there_is_one(tmp_path: Path) -> None:
    command = "python src/run.py"
    assert card_of_exit(2, tmp_path, command).advice == "run it again by itself: it prints why it ends"
    assert OUTPUT not in card_of_lost_worker(RuntimeError(), tmp_path, command).advice
    (tmp_path / OUTPUT).touch()
    assert str(tmp_path / OUTPUT) in card_of_exit(2, tmp_path, command).advice
    assert str(tmp_path / OUTPUT) in card_of_lost_worker(RuntimeError(), tmp_path, command).advice
