"""Whether a study's database is what was written: SQLite reads a damaged file until it meets the damage."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from vsrprune.errors import UserError
from vsrprune.store.sealed import checksum_of

PREFIX = "sqlite:///"
SUM = "checksum"  # among a trial's attributes
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


def sum_of(trial: optuna.Trial | FrozenTrial) -> str:
    """A checksum of what a trial drew, kept and reached."""
    kept = {name: trial.user_attrs.get(name) for name in ("counts", "share", "psnr")}
    return checksum_of({"params": trial.params, **kept})


def check_trials(study: optuna.Study, storage: str) -> None:
    """Raise UserError where a trial fails its checksum, or its value is not the PSNR (dB) of its last rung."""
    # A URL may hold a password.
    where = storage.removeprefix(PREFIX) if storage.startswith(PREFIX) else "the database of search.storage"
    try:
        trials = study.get_trials(deepcopy=False)
    except (LookupError, ValueError, TypeError) as error:  # of a word or a JSON text that is none
        raise UserError(f"{where} is damaged ({' '.join(str(error).split())[:100]}); {MEND}") from error
    for trial in trials:
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue  # of one under way the checksum may be yet to come
        number = f"trial {trial.number} of {study.study_name}"
        if trial.user_attrs.get(SUM, "") not in ("", sum_of(trial)):
            raise UserError(f"{where} is damaged ({number} fails its checksum); {MEND}")
        psnr = trial.user_attrs.get("psnr")
        if trial.state == TrialState.COMPLETE and isinstance(psnr, list) and psnr and psnr[-1] != trial.values[0]:
            raise UserError(
                f"{where} is damaged ({number} has the value {trial.values[0]} and the PSNR {psnr[-1]}); {MEND}"
            )
