"""Optuna's samplers and pruners by name, and which of them go together with what is searched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsrprune.errors import UserError

if TYPE_CHECKING:
    import optuna

PRUNERS = ("median", "hyperband", "none")


@dataclass(frozen=True)
class Sampler:
    """`make` turns a seed and the expected number of trials into a sampler.

    The sampler takes one objective (`single`), two objectives (`fronts`), or both kinds of study. With `constraints` it
    learns which trials miss the budget.
    """

    make: Callable[[int, int], optuna.samplers.BaseSampler]
    single: bool = True
    fronts: bool = False
    constraints: bool = False


def _tpe(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import TPESampler

    # Optuna's default of 10 would leave nothing of a small search; a quarter of the trials are drawn at random.
    return TPESampler(seed=seed, multivariate=True, n_startup_trials=max(3, min(10, trials // 4)))


def _cmaes(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    try:
        import cmaes  # noqa: F401
    except ImportError:
        raise UserError("search=cmaes needs the package cmaes: pip install -e '.[search]'") from None
    from optuna.samplers import CmaEsSampler

    return CmaEsSampler(seed=seed, warn_independent_sampling=False)


def _gp(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import GPSampler

    # Deterministic, because all trials train on the same batches. Few first trials are drawn at random, so that a short
    # search has some left in which the sampler has learnt.
    return GPSampler(seed=seed, n_startup_trials=max(3, min(10, trials // 4)), deterministic_objective=True)


def _random(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _nsga2(seed: int, trials: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import NSGAIISampler

    # Optuna's default population of 50 would make a small search a single generation.
    return NSGAIISampler(seed=seed, population_size=max(6, min(50, trials // 5)))


SAMPLERS: dict[str, Sampler] = {
    "tpe": Sampler(_tpe, fronts=True, constraints=True),
    "cmaes": Sampler(_cmaes),
    "gp": Sampler(_gp, constraints=True),
    "random": Sampler(_random, fronts=True),
    "nsga2": Sampler(_nsga2, single=False, fronts=True, constraints=True),
}


def check_pair(sampler: str, objective: str, project: bool) -> None:
    """Raise UserError for a sampler that cannot search this, naming those that can."""
    front = objective == "front"

    def fits(candidate: Sampler) -> bool:
        return (candidate.fronts if front else candidate.single) and (project or candidate.constraints)

    if not fits(SAMPLERS[sampler]):
        able = ", ".join(name for name, candidate in SAMPLERS.items() if fits(candidate))
        constraint = "" if project else " with search.project=false"
        raise UserError(f"search={sampler} cannot search objective={objective}{constraint}; use search={able}")


def make_pruner(name: str, rungs: int) -> optuna.pruners.BasePruner:
    """Who decides between two rungs whether a trial goes on; rungs count from 1."""
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=4)
    if name == "hyperband":
        return pruners.HyperbandPruner(min_resource=1, max_resource=rungs, reduction_factor=2)
    return pruners.NopPruner()
