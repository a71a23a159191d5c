"""The errors that a user can cause and mend: one line, shown without a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used. The message is one line: what, the value, what is allowed."""


class PreemptedError(UserError):
    """The job was asked to stop by a signal and has written a checkpoint; the same command goes on from there."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.exit_code = 128 + number


class TrainingDivergedError(UserError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


class LostRankError(Exception):
    """A process of a job's data-parallel training died."""


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise UserError unless `value` is among `allowed`."""
    choices = list(allowed)
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(map(str, choices))}; got {value!r}")
