"""What means nothing without a truth is refused by its name, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vsrprune.config.agreement import validate
from vsrprune.config.composing import with_knobs
from vsrprune.config.data import TRUTHS
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.search.config import SearchJobConfig, validate_search


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """The knobs of a job without truth."""
    (tmp_path / "dense.pth").touch()
    return {
        "data.name": "folder",
        "data.path": "FOOTAGE",
        "data.truth": "none",
        "pretrained": str(tmp_path / "dense.pth"),
    }


@pytest.fixture
def beside() -> dict[str, Any]:
    """The knobs of a job with a truth of some clips."""
    return {"data.name": "folder", "data.path": "CLIPS", "data.truth": "some", "data.unlabelled": "FOOTAGE"}


def test_what_is_asked_for_without_a_truth_is_accepted(given: dict[str, Any], beside: dict[str, Any]) -> None:
    for score in ("l1", "taylor", "activation", "random"):
        validate(with_knobs(Config(), {**given, "score": score}))
    validate(with_knobs(Config(), {**given, "score": "mine.py:importance", "score_batches": 0}))
    validate(with_knobs(Config(), {**given, "data.halve": True, "data.crop": 4, "method.tf_in_sparsify": True}))
    validate(with_knobs(Config(), beside))
    for score in ("fisher", "mine.py:importance"):  # these are computed on the clips that have one
        validate(with_knobs(Config(), {**beside, "score": score}))
    validate(with_knobs(Config(), {**beside, "method.output_weight": 0.5, "data.name": "vid4"}))


ALONE = {
    "pretrained=": ({"pretrained": ""}, "add pretrained=FILE"),
    "data=demo": ({"data.name": "demo", "data.path": ""}, "use data=folder"),
    "data=reds": ({"data.name": "reds"}, "use data=folder"),
    "data.degradation=": ({"data.degradation": "bd_duf"}, "take data.degradation out"),
    "evaluate.protocol=": ({"evaluate.protocol": "vid4"}, "use evaluate.protocol=full"),
    "method=dense": ({"method.name": "dense", "method.sparsify": False}, "choose a method that cuts"),
    "method.output_weight=": ({"method.output_weight": 0.5}, "use method.output_weight=0"),
    "score=fisher": ({"score": "fisher"}, "use score=taylor or activation"),
    "score=mine.py:importance": ({"score": "mine.py:importance"}, "or score_batches=0"),
}
LITE = {"rsc": False, "scope": "local", "target": "macs", "method.sparsify": False, "tf_weight": 0.0}
BOTH = {
    "task=denoise": ({"task.name": "denoise", "model.upscale_factors": []}, "use task=sr"),
    "method=lite": ({"method.name": "lite", **LITE}, "choose a method that cuts"),
    "method=distill": ({"method.name": "distill", **LITE}, "choose a method that cuts"),
    "method=unstructured": ({"method.name": "unstructured", **LITE, "scope": "global"}, "choose a method that cuts"),
    "method.teacher=": ({"method.teacher": "sparsified"}, "use method.teacher=dense"),
}


@pytest.mark.parametrize("knob", [*ALONE, *BOTH])
def test_a_knob_that_needs_a_truth_is_refused(knob: str, given: dict[str, Any]) -> None:
    changes, remedy = (ALONE | BOTH)[knob]
    with pytest.raises(UserError) as refused:
        validate(with_knobs(Config(), {**given, **changes}))
    text = str(refused.value)
    assert knob in text
    assert "data.truth=none" in text
    assert remedy in text
    assert "\n" not in text


@pytest.mark.parametrize("knob", BOTH)
def test_a_knob_that_leaves_nothing_to_hold_to_is_refused_beside_a_truth(knob: str, beside: dict[str, Any]) -> None:
    changes, remedy = BOTH[knob]
    with pytest.raises(UserError, match=f"{knob}.*data.truth=some.*{remedy}"):
        validate(with_knobs(Config(), {**beside, **changes}))


@pytest.mark.parametrize("truth", [truth for truth in TRUTHS if truth != "some"])
@pytest.mark.parametrize(("name", "value"), [("unlabelled", "FOOTAGE"), ("unlabelled_weight", 0.5)])
def test_a_knob_of_unlabelled_clips_is_refused_where_nothing_reads_it(
    name: str, value: Any, truth: str, given: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=f"data.{name}={value} is given, but data.truth={truth} does not read it"):
        validate(with_knobs(Config(), {**given, "data.truth": truth, f"data.{name}": value}))


def test_a_truth_of_some_clips_needs_the_others(beside: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"needs data.unlabelled=FOLDER"):
        validate(with_knobs(Config(), {**beside, "data.unlabelled": ""}))
    with pytest.raises(UserError, match=r"data=demo does not go with data.truth=some"):
        validate(with_knobs(Config(), {"data.truth": "some", "data.unlabelled": "FOOTAGE"}))


def test_a_search_scores_by_the_truth(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"data.truth=none: the search scores its trials by their PSNR to the truth"):
        validate_search(with_knobs(SearchJobConfig(), given))
