"""The rows of search.json: plans that were scored, and the full runs of some of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class TrialRow:
    """A trial that has ended.

    `params` are the ratios that were drawn, by dimension; `counts` the kept channels, by layer; `share` what they cost,
    as a share of the dense network. `psnr` is in dB on the scoring clips, at every rung that was reached.
    """

    number: int
    state: str
    params: dict[str, float]
    counts: dict[str, int]
    share: float
    psnr: list[float]
    seconds: float | None

    @classmethod
    def of(cls, trial: FrozenTrial) -> TrialRow:
        """The row of a trial that a study holds."""
        return cls(
            number=trial.number,
            state=trial.state.name.lower(),
            params=trial.params,
            counts=trial.user_attrs["counts"],
            share=trial.user_attrs["share"],
            psnr=trial.user_attrs["psnr"],
            seconds=trial.duration.total_seconds() if trial.duration else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in search.json."""
        return asdict(self)


@dataclass(frozen=True)
class ReferenceRow:
    """The plan that a rule (`global` or `uniform`) makes for `budget`, the wanted share of the dense cost."""

    name: str
    budget: float
    counts: dict[str, int]
    share: float
    psnr: list[float]

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in search.json."""
        return asdict(self)


@dataclass(frozen=True)
class FinalRow:
    """A full run of a plan: `psnr` in dB on the held-out clips, `scoring_psnr` what its last rung had promised.

    `folder` is relative to the search's.
    """

    name: str
    seed: int
    share: float
    scoring_psnr: float
    psnr: float
    folder: str

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in search.json."""
        return asdict(self)


ScoredPlan = TrialRow | ReferenceRow
