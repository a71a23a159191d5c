"""A study: trials that meet their budget, stopped when poor, shared by many processes, resumed after any of them dies.

Optuna's relational storage hands every trial out once. A worker that dies leaves its trial running; its heartbeat ends,
and whoever looks next sets the trial aside and queues it again, once.
"""

from __future__ import annotations

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url

from vsrprune.errors import UserError
from vsrprune.host.secrets import refuse_password, storage_password, without_secrets
from vsrprune.search.optuna_private import start_clock
from vsrprune.search.samplers import SAMPLERS, make_pruner
from vsrprune.search.sound import SUM, check_database, check_trials, sum_of
from vsrprune.search.space import Range, Space

HEARTBEAT_S, GRACE_S = 5, 30  # a worker that was silent for so long is dead
SQLITE_WAIT_S = 60
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
BUDGET = "budget"
BUDGET_SLACK = 0.005  # of the wanted share: by how much a plan may exceed a budget that is a constraint
NEIGHBOURS, NEARBY = 5, 0.1  # a front's trial is compared with so many others of nearly its own cost


class CostModel(Protocol):
    """What a plan costs, and how ratios are brought onto a share of it."""

    def project(self, ratios: Mapping[str, float], share: float) -> dict[str, int]:
        """Kept counts that cost this share of the dense network, in the proportions of `ratios`."""

    def rounded(self, ratios: Mapping[str, float]) -> dict[str, int]:
        """Kept counts nearest to `ratios`, whatever they cost."""

    def share(self, counts: Mapping[str, int]) -> float:
        """What counts cost, as a share of the dense network's."""


Score = Callable[[Mapping[str, int]], Iterator[float]]  # kept counts -> PSNR in dB at each rung


@dataclass(frozen=True)
class StudyPlan:
    """What a study searches, and how: `space`, at one `budget` (the share of the cost that is kept, in (0, 1]) or over
    a range of budgets (a front).

    With `project`, every trial is brought onto the budget before it is scored; otherwise the budget is a constraint
    that the sampler learns. `rungs` is how many scores a whole trial gets. `trials` counts those that end, in all
    processes together.
    """

    space: Space
    budget: float | Range
    project: bool
    rungs: int
    sampler: str
    pruner: str
    trials: int
    seed: int

    @property
    def front(self) -> bool:
        """Whether PSNR and cost are two objectives."""
        return isinstance(self.budget, Range)


def quiet() -> None:
    """Leave the terminal to our own progress."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def open_study(storage: str, name: str, plan: StudyPlan, settings: Mapping[str, Any], worker: int) -> optuna.Study:
    """The study of that name, made if it is not there.

    `settings` is what the trials of one study must agree in. Raises UserError, naming what differs, if the study was
    begun with others, if the storage cannot be reached, or if it is damaged.
    """
    with _reaching(storage):
        study = optuna.create_study(
            storage=open_storage(storage),
            study_name=name,
            pruner=make_pruner(plan.pruner, plan.rungs),
            directions=["maximize", "minimize"] if plan.front else ["maximize"],
            load_if_exists=True,
        )
    check_trials(study, storage)
    # A resumed search that began its sampler's random numbers anew would draw its first trials once more.
    begun = len(study.get_trials(deepcopy=False))
    seed = int(np.random.SeedSequence([plan.seed, worker, begun]).generate_state(1)[0])
    study.sampler = SAMPLERS[plan.sampler].make(seed, plan.trials)
    _agree(study, storage, settings)
    return study


def check_storage(storage: str) -> None:
    """Raise UserError for a database that is damaged or cannot be opened."""
    with _reaching(storage):
        open_storage(storage)


@contextlib.contextmanager
def _reaching(storage: str) -> Iterator[None]:
    check_database(storage)
    try:
        yield
    # open_storage has said in one line what is missing.
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy's and the driver's own
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"search.storage={storage}: cannot open this database ({without_secrets(text)})") from error


def _agree(study: optuna.Study, storage: str, settings: Mapping[str, Any]) -> None:
    """Raise UserError unless the study was begun with these settings; a new study is begun with them."""
    known = study.user_attrs.get("settings")
    if known is None:
        study.set_user_attr("settings", dict(settings))
    elif known != settings:
        differing = [key for key in {**known, **settings} if known.get(key) != settings.get(key)]
        shown = ", ".join(f"{key} ({_short(known.get(key))}, now {_short(settings.get(key))})" for key in differing[:3])
        raise UserError(
            f"the study {study.study_name!r} in {storage} was begun with other settings: {shown}; use another"
            " search.study, or the settings it was begun with"
        )


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's relational storage at a URL such as sqlite:///FILE or postgresql://USER@HOST/DATABASE.

    The password is that of the environment.
    """
    refuse_password("search.storage", url)  # it stands in messages
    # SQLite lets one process write at a time, and the others wait. A server may have closed a connection that was idle
    # while a trial trained, so that it is tried before it is used.
    arguments = {"connect_args": {"timeout": SQLITE_WAIT_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(
            _reached_by(url),
            engine_kwargs=arguments,
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            # Once only: a trial that ends its worker every time must not go round for ever.
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1),
        )
    except ImportError as error:
        raise UserError(
            f"search.storage={url}: its database driver is missing ({error}); pip install -e '.[search]'"
        ) from error


def _reached_by(url: str) -> str:
    """The URL with the driver that the extra `search` brings, and with the password."""
    if url.startswith("sqlite"):
        return url
    whole = make_url(url)
    if whole.drivername == "postgresql":  # of which SQLAlchemy 2.1 makes psycopg 3, and earlier ones psycopg2
        whole = whole.set(drivername="postgresql+psycopg2")
    if password := storage_password():
        whole = whole.set(password=password)
    return whole.render_as_string(hide_password=False)


def ask_first(study: optuna.Study, points: Sequence[Mapping[str, float]]) -> None:
    """Queue points that are known to be good before the sampler draws any, once in the life of a study."""
    if study.user_attrs.get("asked_first"):
        return
    study.set_user_attr("asked_first", True)
    for point in points:
        study.enqueue_trial(dict(point), skip_if_exists=True)


def work(
    study: optuna.Study,
    plan: StudyPlan,
    cost: CostModel,
    score: Score,
    on_trial: Callable[[optuna.Study, FrozenTrial], None] = lambda study, trial: None,
) -> None:
    """Run trials until `plan.trials` of them have ended, in this process and all others of the study together."""
    objective = _Objective(plan, cost, score)
    noticed: set[int] = set()
    while True:
        # The trial of a worker that died counts as running until somebody notices that its heartbeat stopped.
        optuna.storages.fail_stale_trials(study)
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        ended = sum(state in ENDED for state in states)
        running = sum(state == TrialState.RUNNING for state in states)
        if ended >= plan.trials:
            return
        if ended + running >= plan.trials:
            _start_clocks(study, noticed)
            time.sleep(1)  # the last ones are under way elsewhere, or their worker is dead and will be found
        else:
            study.optimize(objective, n_trials=1, callbacks=[on_trial], catch=(_SurplusError,))


def _start_clocks(study: optuna.Study, noticed: set[int]) -> None:
    """Give every running trial one heartbeat, once; `noticed` holds the numbers of those that had it."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number not in noticed:
            noticed.add(trial.number)
            start_clock(study, trial)


class _SurplusError(Exception):
    """Several workers began the last trial at once; this one is left to the others and counts as failed."""


def _refuse_surplus(trial: optuna.Trial, trials: int) -> None:
    """Raise _SurplusError unless `trial` is among the first `trials` that have not failed.

    Counting before a trial is drawn cannot tell, for others count at the same time; numbers are given out one by one.
    """
    earlier = [
        other
        for other in trial.study.get_trials(deepcopy=False)
        if other.number < trial.number and other.state != TrialState.FAIL
    ]
    if len(earlier) >= trials:
        trial.set_user_attr("surplus", True)
        raise _SurplusError


class _Objective:
    """One trial: draw ratios, bring them onto the budget, score them rung by rung."""

    def __init__(self, plan: StudyPlan, cost: CostModel, score: Score) -> None:
        self._plan, self._cost, self._score = plan, cost, score

    def __call__(self, trial: optuna.Trial) -> float | tuple[float, float]:
        plan = self._plan
        _refuse_surplus(trial, plan.trials)
        counts = self._draw(trial)
        share = self._cost.share(counts)
        trial.set_user_attr("counts", counts)
        trial.set_user_attr("share", share)
        over = self._excess(trial, share)
        reached: list[float] = []
        for psnr in self._score(counts):
            reached.append(psnr)
            trial.set_user_attr("psnr", reached)
            trial.set_user_attr(SUM, sum_of(trial))
            # A plan beyond the budget is never chosen: its first score is all that the sampler needs.
            if over > 0 or (len(reached) < plan.rungs and self._is_poor(trial, reached, share)):
                break
        if plan.front:
            return reached[-1], share
        # Pruned, and not complete with the PSNR of an early rung: samplers compare the values of complete trials. A
        # trial beyond the budget is complete, since its constraint already tells the sampler that it failed.
        if len(reached) < plan.rungs and over <= 0:
            raise optuna.TrialPruned
        return reached[-1]

    def _draw(self, trial: optuna.Trial) -> dict[str, int]:
        """Kept counts of the ratios that the sampler draws."""
        space, budget = self._plan.space, self._plan.budget
        ratios = space.ratios({name: trial.suggest_float(name, r.low, r.high) for name, r in space.ranges.items()})
        if not self._plan.project:
            return self._cost.rounded(ratios)
        share = trial.suggest_float(BUDGET, budget.low, budget.high) if isinstance(budget, Range) else budget
        return self._cost.project(ratios, share)

    def _excess(self, trial: optuna.Trial, share: float) -> float:
        """By how much a trial exceeds a budget that is a constraint, as a share of it; above 0 the trial misses it."""
        budget = self._plan.budget
        if self._plan.project or isinstance(budget, Range):
            return 0.0
        # An upper bound, and not a band around the budget: within half a percent from both sides hardly a draw was
        # feasible, and sixty trials could end without a plan.
        over = share / budget - 1 - BUDGET_SLACK
        trial.set_constraint(BUDGET, over)
        return over

    def _is_poor(self, trial: optuna.Trial, reached: list[float], share: float) -> bool:
        if self._plan.front:
            return self._is_poor_for_its_cost(trial, reached, share)
        trial.report(reached[-1], step=len(reached))
        return trial.should_prune()

    def _is_poor_for_its_cost(self, trial: optuna.Trial, reached: list[float], share: float) -> bool:
        """Optuna prunes no trial with two objectives; this one ends below the median of those of nearly its cost."""
        if self._plan.pruner == "none":
            return False
        others = [
            other.user_attrs["psnr"][len(reached) - 1]
            for other in trial.study.get_trials(deepcopy=False, states=ENDED)
            if len(other.user_attrs["psnr"]) >= len(reached) and abs(other.user_attrs["share"] - share) <= NEARBY
        ]
        return len(others) >= NEIGHBOURS and reached[-1] < statistics.median(others)


def finished_trials(study: optuna.Study, rungs: int) -> list[FrozenTrial]:
    """Trials that were scored at every rung within their budget, in the order of their numbers."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(trial.user_attrs.get("psnr", ())) == rungs and all(over <= 0 for over in trial.constraints.values())
    ]


def best_trial(study: optuna.Study, rungs: int) -> FrozenTrial:
    """The trial of highest PSNR at the last rung; raises UserError if none got there."""
    trials = finished_trials(study, rungs)
    if not trials:
        raise UserError(
            "no trial met the budget and reached the last rung; use search.project=true, more search.trials, or"
            " search.pruner=none"
        )
    return max(trials, key=lambda trial: trial.user_attrs["psnr"][-1])


def pareto_trials(study: optuna.Study, rungs: int) -> list[FrozenTrial]:
    """Trials than which no other has a higher PSNR at no higher cost, by rising cost."""
    front: list[FrozenTrial] = []
    for trial in sorted(
        finished_trials(study, rungs), key=lambda trial: (trial.user_attrs["share"], -trial.user_attrs["psnr"][-1])
    ):
        if not front or trial.user_attrs["psnr"][-1] > front[-1].user_attrs["psnr"][-1]:
            front.append(trial)
    return front


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
