"""Which job is meant by a folder above it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from results_made import small_result

from vsrprune.errors import UserError
from vsrprune.networks.files import WEIGHTS
from vsrprune.results.result import RESULT
from vsrprune.store.store import Store
from vsrprune.use.load import SHOWN, int8_graphs, load_trained, only_job
from vsrprune.use.streaming import Pieces
from vsrprune.use.upscaling import UpscalingRequest, check_request


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


def test_int8_graphs_are_those_of_a_job_that_made_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", print)
    key = "0123456789abcdef"
    for stages in ({}, {"quantise": key}):
        replace(small_result(), stages=stages).save(tmp_path / "job")
        told = f"quantise/{key}, are not in the store" if stages else "is no job that made an int8 network"
        with pytest.raises(UserError, match=told):
            int8_graphs(tmp_path / "job", tmp_path / "store", print)
    store.produce("quantise", key, {}, lambda folder, work: (folder / "int8").mkdir())
    assert int8_graphs(tmp_path / "job", tmp_path / "store", print) == tmp_path / "store" / "quantise" / key / "int8"
    with pytest.raises(UserError, match="run it with quantise=int8"):
        int8_graphs(tmp_path / "nowhere", tmp_path / "store", print)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine": "torch"}, "--precision int8 is for --engine onnxruntime or --engine openvino; add one of them"),
        ({"engine": "auto"}, "--precision int8 is for --engine onnxruntime or --engine openvino; add one of them"),
        ({"which": "dense"}, "--precision int8 is of the network that a job fine-tuned; got --which dense"),
        ({"device": "cuda"}, "--device cuda: --engine onnxruntime runs on the CPU; leave it out"),
    ],
)
def test_int8_is_refused_where_no_graphs_of_a_job_run(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    given = {"engine": "onnxruntime", "precision": "int8", **changes}
    request = UpscalingRequest(tmp_path / "in", tmp_path / "out", tmp_path, tmp_path, Pieces(2, 1), **given)
    with pytest.raises(UserError) as refused:
        check_request(request)
    assert str(refused.value) == told
