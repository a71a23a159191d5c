"""Whether a study's database is what was written: SQLite reads a damaged file until it meets the damage."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
from optuna.trial import TrialState

from vsrprune.errors import UserError

PREFIX = "sqlite:///"
MEND = "move it away and run the same command again: trials whose artifacts are in the store cost little"


def check_database(url: str) -> None:
    """Raise UserError for an SQLite file that is damaged; another database checks itself, and a new one is not there.

    SQLite's own check reads the whole file: a page, an index or a row that is damaged is found, and changed digits in a
    row are not (`check_trials`).
    """
    path = Path(url.removeprefix(PREFIX))
    if not url.startswith(PREFIX) or not path.exists():
        return
    try:
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60)
        try:
            (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        finally:
            database.close()
    except sqlite3.OperationalError:
        return  # it is locked, or may not be read: whoever opens it says so
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        found = str(error)
    if found != "ok":
        raise UserError(f"{path} is damaged ({' '.join(found.split())[:100]}); {MEND}")


def check_trials(study: optuna.Study, storage: str) -> None:
    """Raise UserError where a trial's value is not the PSNR (dB) of its last rung: the study holds both."""
    # A URL may hold a password.
    where = storage.removeprefix(PREFIX) if storage.startswith(PREFIX) else "the database of search.storage"
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        psnr = trial.user_attrs.get("psnr")
        if isinstance(psnr, list) and psnr and psnr[-1] != trial.values[0]:
            raise UserError(
                f"{where} is damaged (trial {trial.number} of {study.study_name} has the value"
                f" {trial.values[0]} and the PSNR {psnr[-1]}); {MEND}"
            )
