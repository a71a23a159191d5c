"""What quantise=int8 adds to a plan, what it leaves as it was, and where it is refused before any work."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_job import tiny_config

from vsrprune.config.composing import with_knobs
from vsrprune.config.model import ModelConfig
from vsrprune.engines import extras
from vsrprune.errors import UserError
from vsrprune.jobs.planning import plan_job
from vsrprune.networks.edvr.spec import EDVRArguments

INT8 = {"quantise.name": "int8"}


def keys(**knobs: Any) -> dict[str, str]:
    changes = {name.replace("__", "."): value for name, value in knobs.items()}
    return {stage.name: stage.key for stage in plan_job(with_knobs(tiny_config(), changes)).stages}


def test_all_other_stages_are_shared_with_the_job_in_32_bits() -> None:
    plain, quantised = keys(), keys(quantise__name="int8")
    assert list(quantised) == [*list(plain)[:-1], "quantise", "measure"]
    assert {name for name in plain if plain[name] != quantised[name]} == {"measure"}


def test_a_job_in_32_bits_reads_no_knob_of_int8() -> None:
    assert keys() == keys(quantise__clips=3, quantise__calibration="entropy")
    assert "quantise" not in plan_job(tiny_config()).config.knobs()
    assert plan_job(with_knobs(tiny_config(), INT8)).config.knobs()["quantise"]["clips"] == 8


@pytest.mark.parametrize(
    ("knob", "value"),
    [("calibration", "entropy"), ("clips", 3), ("frames", 5), ("largest_loss", 0.1)],
)
def test_every_knob_of_int8_makes_another_network(knob: str, value: Any) -> None:
    one, other = keys(quantise__name="int8"), keys(quantise__name="int8", **{f"quantise__{knob}": value})
    assert {name for name in one if one[name] != other[name]} == {"quantise", "measure"}


def test_a_job_that_ends_before_its_evaluation_makes_no_int8_network() -> None:
    assert keys(quantise__name="int8", until="finetune") == keys(until="finetune")


def test_int8_is_refused_without_onnxruntime_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda module: module != "onnxruntime")
    plan_job(tiny_config())
    with pytest.raises(UserError) as told:
        plan_job(with_knobs(tiny_config(), INT8))
    assert str(told.value) == "quantise=int8: onnxruntime is not installed: pip install -e '.[deploy]'"


def test_int8_is_refused_by_name_for_a_network_whose_graphs_serve_one_length() -> None:
    config = with_knobs(tiny_config(), {**INT8, "tf_weight": 0.0})
    config.model = ModelConfig("edvr_tiny", "edvr", EDVRArguments(channels=8, deformable_groups=2))
    with pytest.raises(UserError, match=r"^quantise=int8 needs .* model=edvr_tiny has none; use quantise=none, or"):
        plan_job(config)
