"""What a plan is worth is an artifact: it is not computed again, and tells of a study that was changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from vsrprune.errors import UserError
from vsrprune.search import probes
from vsrprune.store.store import Store

COUNTS = {"first": 3, "second": 5}
PSNR = [20.5, 21.25, 22.125]  # dB at three rungs


class Trials:
    """Scores every plan alike, and counts how often a rung was computed."""

    computed = 0

    def psnr_at(self, counts: Mapping[str, int], rungs: object, give_way: object) -> Iterator[float]:
        for psnr in PSNR:
            self.computed += 1
            yield psnr


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    @contextlib.contextmanager
    def working(*given: object) -> Iterator[Any]:
        yield SimpleNamespace(give_way=None)

    monkeypatch.setattr(probes, "working", working)
    monkeypatch.setattr(probes, "probe_settings", lambda bench: {"rungs": [0, 1, 2]})
    trials: Any = Trials()
    trials.device = None
    job = SimpleNamespace(place=SimpleNamespace(uuids=()))
    return SimpleNamespace(
        store=Store(tmp_path, print), trials=trials, job=job, search=SimpleNamespace(rungs=[0, 1, 2])
    )


def test_a_plan_that_was_scored_to_its_end_is_not_scored_again(bench: Any) -> None:
    assert list(probes.score_plan(bench, COUNTS)) == PSNR
    assert list(probes.score_plan(bench, COUNTS)) == probes.probe(bench, COUNTS) == PSNR
    assert bench.trials.computed == 3
    assert list(probes.score_plan(bench, {**COUNTS, "first": 2})) == PSNR
    assert bench.trials.computed == 6


def test_a_plan_that_was_stopped_as_poor_leaves_no_artifact(bench: Any) -> None:
    assert list(islice(probes.score_plan(bench, COUNTS), 2)) == PSNR[:2]
    assert probes.kept_psnr(bench, COUNTS) is None


def test_a_trial_of_another_psnr_than_its_artifact_is_refused(bench: Any) -> None:
    study = optuna.create_study()
    for psnr in (PSNR, [20.5, 21.25, 29.125]):
        attributes = {"psnr": psnr, "counts": COUNTS}
        study.add_trial(optuna.trial.create_trial(value=psnr[-1], user_attrs=attributes))
    probes.check_kept(bench, study)  # without artifacts there is nothing to hold them against
    assert list(probes.score_plan(bench, COUNTS)) == PSNR
    with pytest.raises(UserError, match=r"trial 1 has the PSNR 29\.125, and its artifact 22\.125\); move it away"):
        probes.check_kept(bench, study)
