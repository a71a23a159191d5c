"""Which job is meant by a folder above it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsrprune.errors import UserError
from vsrprune.networks.files import WEIGHTS
from vsrprune.results.result import RESULT
from vsrprune.use.load import SHOWN, load_trained, only_job


def job(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / RESULT).touch()
    return folder


def test_a_job_and_a_network_stand_for_themselves(tmp_path: Path) -> None:
    made = job(tmp_path / "runs" / "job")
    assert only_job(made) == made
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / WEIGHTS).touch()
    assert only_job(tmp_path / "network") == tmp_path / "network"
    assert only_job(tmp_path / "nowhere") == tmp_path / "nowhere"


def test_a_folder_stands_for_the_one_finished_job_below_it(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = job(runs / "sweep" / "ratio=0.3")
    (runs / "sweep" / "ratio=0.5").mkdir()  # failed
    (runs / "latest").symlink_to("sweep")
    for given in (runs, runs / "sweep", runs / "latest"):
        assert only_job(given).samefile(made)


def test_of_several_jobs_one_has_to_be_named(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for number in range(SHOWN + 2):
        job(runs / "sweep" / f"seed={number}")
    (runs / "latest").symlink_to("sweep")
    with pytest.raises(UserError, match=r"^.*latest holds 10 finished jobs; name one of them: ") as told:
        only_job(runs / "latest")
    assert f"{runs / 'latest' / 'seed=0'}, " in str(told.value)
    assert str(told.value).endswith(" or 2 others")


def test_a_link_to_what_is_gone_is_told(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("sweep")
    with pytest.raises(UserError, match="a link to sweep, which is gone"):
        load_trained(tmp_path / "latest", tmp_path / "store", print)
