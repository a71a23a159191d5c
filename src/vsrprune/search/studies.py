"""The studies of a search: what each one searches, and running it, in this process or by several workers."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import optuna
import torch

from vsrprune.errors import UserError
from vsrprune.host.allocator import keep_freed_memory
from vsrprune.host.progress import StageProgress
from vsrprune.jobs.devices import show_one_of_many
from vsrprune.search.bench import SearchBench, open_bench
from vsrprune.search.config import SearchJobConfig
from vsrprune.search.mirror import StudyMirror
from vsrprune.search.probes import check_kept, probe_settings, score_plan
from vsrprune.search.rows import TrialRow
from vsrprune.search.space import Range, Space, make_space, refined
from vsrprune.search.study import ENDED, StudyPlan, best_trial, open_study, pareto_trials, quiet, work

POLL_S = 0.5

Look = Callable[..., None]  # called with the study when a trial may have ended


def first_plan(bench: SearchBench) -> StudyPlan:
    """A ratio for all that search.group puts together."""
    search = bench.search
    return _plan(bench, make_space(bench.layout, search.group, search.low, search.high), search.trials)


def finer_plan(bench: SearchBench, centre: Mapping[str, float]) -> StudyPlan:
    """A ratio per layer, around the ratios in `centre`."""
    search = bench.search
    return _plan(bench, refined(bench.layout, centre, search.low, search.high, search.radius), search.refine)


def _plan(bench: SearchBench, space: Space, trials: int) -> StudyPlan:
    search = bench.search
    return StudyPlan(
        space=space,
        budget=Range(*search.budgets) if bench.front else 1 - bench.config.ratio,
        project=search.project,
        rungs=len(search.rungs),
        sampler=search.name,
        pruner=search.pruner,
        trials=trials,
        seed=search.seed,
    )


def study_settings(bench: SearchBench, plan: StudyPlan) -> dict[str, Any]:
    """What the trials of one study have in common; the sampler and the number of trials may change."""
    budget = plan.budget
    return {
        "space": {name: list(layers) for name, layers in plan.space.layers.items()},
        "bounds": plan.space.to_json(),
        "budget": [budget.low, budget.high] if isinstance(budget, Range) else budget,
        "cost": bench.search.cost,
        "project": plan.project,
        **probe_settings(bench),
    }


def open_planned(bench: SearchBench, name: str, plan: StudyPlan, worker: int = 0) -> optuna.Study:
    """The study of that name in the database of the search.

    Raises UserError if it was begun with other settings, and where it is damaged.
    """
    study = open_study(bench.storage, name, plan, study_settings(bench, plan), worker)
    check_kept(bench, study)
    return study


def run_study(bench: SearchBench, study: optuna.Study, plan: StudyPlan, label: str, mirror: StudyMirror) -> None:
    """Run the trials that the study lacks; `mirror` is told of all that have ended, those of earlier calls too."""
    with StageProgress(label, plan.trials) as progress:
        progress.start_at(min(len(study.get_trials(deepcopy=False, states=ENDED)), plan.trials))
        look = _watching(plan, progress, mirror)
        look(study)
        # Each worker takes seconds to start, and a finished study has nothing for it.
        if bench.search.workers > 1 and len(study.get_trials(deepcopy=False, states=ENDED)) < plan.trials:
            _run_workers(bench, study, plan, look)
        _work(bench, study, plan, look)  # after workers, what is left if some of them died
        look(study)


def _watching(plan: StudyPlan, progress: StageProgress, mirror: StudyMirror) -> Look:
    seen: set[int] = set()

    def look(study: optuna.Study, trial: object = None) -> None:
        ended = study.get_trials(deepcopy=False, states=ENDED)
        for one in ended:
            if one.number not in seen:
                seen.add(one.number)
                mirror.trial(TrialRow.of(one).to_json())
        progress.update(min(len(ended), plan.trials), _so_far(study, plan))

    return look


def _so_far(study: optuna.Study, plan: StudyPlan) -> str:
    try:
        if plan.front:
            return f"{len(pareto_trials(study, plan.rungs))} plans on the front"
        best = best_trial(study, plan.rungs)
    except UserError:
        return ""
    return f"best {best.user_attrs['psnr'][-1]:.2f} dB (trial {best.number})"


def _work(bench: SearchBench, study: optuna.Study, plan: StudyPlan, look: Look = lambda study, trial: None) -> None:
    keep_freed_memory()
    work(study, plan, bench.cost(bench.bounds), partial(score_plan, bench), look)


def _run_workers(bench: SearchBench, study: optuna.Study, plan: StudyPlan, look: Look) -> None:
    """Processes on one study; one that dies costs its trial, which the others take up again."""
    count = bench.search.workers
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    # All workers together get the threads that one process would have.
    threads = max(1, (bench.config.trainer.threads or torch.get_num_threads()) // count)
    task = (bench.config, bench.folder, study.study_name, plan)
    workers = [context.Process(target=_join_study, args=(*task, number, threads)) for number in range(count)]
    for process in workers:
        process.start()
    try:
        _wait(workers, lambda: look(study), bench.say)
    finally:
        for process in workers:
            # After Ctrl-C or an error, workers would go on with the study by themselves.
            process.terminate()
            process.join()


def _wait(workers: Sequence[SpawnProcess], look: Callable[[], None], say: Callable[[str], None]) -> None:
    """Return when all workers have ended; say once of each that died."""
    told: set[int] = set()
    while any(process.is_alive() for process in workers):
        time.sleep(POLL_S)
        look()
        for process in workers:
            if process.exitcode and process.pid not in told:
                told.add(process.pid or 0)
                say(f"warning: a worker died (exit code {process.exitcode}); the others go on")


def _join_study(config: SearchJobConfig, folder: Path, name: str, plan: StudyPlan, number: int, threads: int) -> None:
    """Take part in a study as one of several workers, in a process of its own."""
    torch.set_num_threads(threads)
    show_one_of_many(number)
    quiet()
    bench = open_bench(config, folder, lambda text: None)
    _work(bench, open_planned(bench, name, plan, worker=number), plan)
