"""Which engines a job's networks are timed in, what that does to keys, and what is refused before any work."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from tiny_job import tiny_config

from vsrprune.config.composing import with_knobs
from vsrprune.config.evaluate import EvaluateConfig
from vsrprune.config.model import ModelConfig
from vsrprune.engines import extras
from vsrprune.engines.extras import ENGINES, versions_of
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.knobs import leaves
from vsrprune.networks.edvr.spec import EDVRArguments
from vsrprune.stages.graph import plan_stages
from vsrprune.stages.job import Job
from vsrprune.stages.recipe import Facts

REAL = {"target": "realtime", "target_ms": 40.0, "round_to": "auto", "score": "taylor"}
INT8 = {"quantise.name": "int8"}


@pytest.fixture(autouse=True)
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda module: True)
    monkeypatch.setattr(extras, "version", lambda name: f"{name} 1")


def planned(*changes: dict[str, Any], **knobs: Any) -> Job:
    given: dict[str, Any] = {}
    for change in (*changes, {name.replace("__", "."): value for name, value in knobs.items()}):
        given |= change
    return plan_job(with_knobs(tiny_config(), given))


def keys(*changes: dict[str, Any], **knobs: Any) -> dict[str, str]:
    return {stage.name: stage.key for stage in planned(*changes, **knobs).stages}


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return {name for name in one if one[name] != other.get(name)}


def test_the_knob_names_every_engine_there_is() -> None:
    (leaf,) = [leaf for leaf in leaves(EvaluateConfig) if leaf.name == "engine"]
    assert tuple(leaf.knob.choices) == ("auto", "torch", *ENGINES)


@pytest.mark.parametrize(
    ("changes", "engines"),
    [
        ([], ()),
        ([{"target": "latency", "target_ms": 40.0, "round_to": "auto", "score": "taylor"}], ()),
        ([REAL], ("onnxruntime", "openvino")),
        ([REAL, INT8], ("onnxruntime", "openvino")),
        ([REAL, {"evaluate.engine": "torch"}], ()),
        ([REAL, {"evaluate.engine": "openvino"}], ("openvino",)),
        ([INT8], ("onnxruntime",)),
        ([INT8, {"evaluate.engine": "openvino"}], ("openvino",)),
        ([{"evaluate.engine": "onnxruntime"}], ("onnxruntime",)),
    ],
)
def test_networks_are_timed_in_the_engines_that_are_asked_for(
    changes: list[dict[str, Any]], engines: tuple[str, ...]
) -> None:
    assert planned(*changes).engines == engines


def test_an_engine_changes_what_is_measured_and_a_plan_that_is_to_be_in_time() -> None:
    assert changed(keys(), keys(evaluate__engine="onnxruntime")) == {"measure"}
    assert keys() == keys(evaluate__engine="torch")
    in_torch, anywhere = keys(REAL, evaluate__engine="torch"), keys(REAL)
    assert {"select", "measure"} <= changed(in_torch, anywhere)
    assert not {"pretrain", "timing", "score"} & changed(in_torch, anywhere)
    # One engine that must be in time is another question than all of them.
    assert "select" in changed(anywhere, keys(REAL, evaluate__engine="openvino"))
    # Where int8 counts, less has to be cut.
    assert "select" in changed(anywhere, keys(REAL, INT8))


def test_another_version_of_an_engine_is_timed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(evaluate__engine="onnxruntime")
    monkeypatch.setattr(extras, "version", lambda name: "2")
    assert changed(before, keys(evaluate__engine="onnxruntime")) == {"measure"}
    assert versions_of(["openvino"]) == {"openvino": "2"}


def test_results_that_ask_for_no_engine_say_nothing_of_one() -> None:
    assert "engine" not in planned().config.knobs()["evaluate"]
    assert planned(evaluate__engine="openvino").config.knobs()["evaluate"]["engine"] == "openvino"


def test_what_is_installed_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "openvino")
    assert planned(REAL).engines == ("onnxruntime",)
    with pytest.raises(UserError, match=r"^evaluate\.engine=openvino: openvino is not installed: pip install"):
        planned(evaluate__engine="openvino")


def test_a_network_without_graphs_is_timed_in_torch_and_refused_where_an_engine_is_named() -> None:
    config = with_knobs(tiny_config(), {**REAL, "tf_weight": 0.0})
    config.model = ModelConfig("edvr_tiny", "edvr", EDVRArguments(channels=8, deformable_groups=2))
    assert plan_job(config).engines == ()
    config.evaluate.engine = "onnxruntime"
    with pytest.raises(UserError, match=r"^evaluate\.engine=onnxruntime needs .*edvr_tiny has none; use .*=torch"):
        plan_job(config)


def test_torch_alone_runs_no_int8_network() -> None:
    with pytest.raises(UserError, match=r"^evaluate\.engine=torch does not go with quantise=int8"):
        planned(INT8, evaluate__engine="torch")


def test_another_build_of_an_engine_has_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return f"{name} 3"

    monkeypatch.setattr(extras, "version", version)
    monkeypatch.setattr(extras, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    assert versions_of(["onnxruntime"]) == {"onnxruntime": "onnxruntime-gpu 3"}
    monkeypatch.setattr(extras, "packages_distributions", dict)
    assert versions_of(["onnxruntime"]) == {"onnxruntime": "unknown"}


def test_a_folder_that_has_an_engine_s_name_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "of_no_library").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not extras.is_installed("of_no_library")
    assert not extras.is_installed("nowhere_at_all")
    assert extras.is_installed("onnx")


def test_engines_do_not_count_beside_a_card_unless_one_is_named() -> None:
    plans = {}
    for name, changes in (
        ("plain", REAL),
        ("int8", {**REAL, **INT8}),
        ("named", {**REAL, "evaluate.engine": "openvino"}),
    ):
        job = planned(changes)
        facts = Facts(model={}, train="", val="", device="a card", engines=dict.fromkeys(job.engines, "1"))
        plans[name] = {stage.name: stage.key for stage in plan_stages(job.config, facts)}["select"]
    assert plans["plain"] == plans["int8"] != plans["named"]
