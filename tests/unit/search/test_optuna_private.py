"""The shape of the installed Optuna where a search uses parts without a public name."""

from __future__ import annotations

import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from vsrprune.search.optuna_private import start_clock
from vsrprune.search.study import open_storage


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A study whose workers count as dead after a second, with one trial that nobody works on."""
    monkeypatch.setattr("vsrprune.search.study.HEARTBEAT_S", 1)
    monkeypatch.setattr("vsrprune.search.study.GRACE_S", 1)
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path / 'study.db'}"))
    study.ask()
    return study


def running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def test_optuna_has_the_private_parts_that_a_search_uses(study: optuna.Study) -> None:
    (trial,) = running(study)
    parts = {
        "Study._storage": hasattr(study, "_storage"),
        "FrozenTrial._trial_id": hasattr(trial, "_trial_id"),
        "record_heartbeat of the storage": hasattr(getattr(study, "_storage", None), "record_heartbeat"),
    }
    missing = [name for name, there in parts.items() if not there]
    assert not missing, (
        f"optuna {optuna.__version__} has no {', '.join(missing)} any more: mend vsrprune/search/optuna_private.py, or"
        " pin an older release in pyproject.toml"
    )


def test_optuna_finds_a_dead_worker_only_by_its_heartbeat(study: optuna.Study) -> None:
    time.sleep(2.5)  # databases count whole seconds
    optuna.storages.fail_stale_trials(study)
    assert len(running(study)) == 1, (
        f"optuna {optuna.__version__} finds trials without a heartbeat by itself: start_clock may go"
    )
    start_clock(study, running(study)[0])
    optuna.storages.fail_stale_trials(study)
    assert len(running(study)) == 1  # the heartbeat is fresh
    time.sleep(2.5)
    optuna.storages.fail_stale_trials(study)
    assert running(study) == []
