"""The parts of Optuna that a search needs and Optuna does not offer; a test tells when a release changes them."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial


def start_clock(study: optuna.Study, trial: FrozenTrial) -> None:
    """Give a running trial a heartbeat, so that it is found if its worker is dead.

    Optuna records heartbeats from a thread that starts after a trial is drawn, and passes over trials that have none: a
    worker that dies in between leaves a trial that runs for ever. Neither a study's storage nor a trial's number in the
    whole database has a public name.
    """
    storage: Any = study._storage
    storage.record_heartbeat(trial._trial_id)
