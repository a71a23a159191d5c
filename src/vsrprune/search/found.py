"""What a search found: the content of search.json, and the plans as files that run.py reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml

from vsrprune.commands import typed
from vsrprune.search.bench import SearchBench
from vsrprune.search.report import rank_correlations
from vsrprune.search.rows import ReferenceRow, TrialRow
from vsrprune.search.studies import study_settings
from vsrprune.search.study import ENDED, StudyPlan, best_trial, finished_trials, pareto_trials
from vsrprune.store.atomic import write_atomically

SEARCH, PLAN = "search.json", "plan.yaml"
FEWEST_FOR_IMPORTANCE = 10


def chosen_trials(study: optuna.Study, plan: StudyPlan) -> list[TrialRow]:
    """The best trial alone, or those on the front by rising cost; raises UserError if there is no best one."""
    trials = pareto_trials(study, plan.rungs) if plan.front else [best_trial(study, plan.rungs)]
    return [TrialRow.of(trial) for trial in trials]


def found_json(
    bench: SearchBench,
    study: optuna.Study,
    plan: StudyPlan,
    chosen: Sequence[TrialRow],
    references: Sequence[ReferenceRow],
) -> dict[str, Any]:
    """The content of search.json before the full runs."""
    search = bench.search
    trials = [TrialRow.of(trial) for trial in study.get_trials(deepcopy=False, states=ENDED)]
    rows = [row.to_json() for row in chosen]
    return {
        "objective": search.objective,
        "cost": search.cost,
        "settings": study_settings(bench, plan),
        "sampler": search.name,
        "storage": "" if search.storage else bench.storage,  # a URL that was given may hold a password
        "study": study.study_name,
        "rungs": list(search.rungs),
        "layers": [
            {"name": group.name, "part": group.part, "kind": group.kind, "size": group.size}
            for group in bench.layout.groups
        ],
        "trials": [row.to_json() for row in trials],
        "references": [row.to_json() for row in references],
        "rank_correlation": rank_correlations([row.psnr for row in trials], search.rungs),
        "importance": _importance(study, plan),
        "finals": [],
        **({"front": rows} if plan.front else {"best": rows[0]}),
    }


def write_plans(bench: SearchBench, chosen: Sequence[TrialRow]) -> None:
    """plan.yaml of the best trial, or a file in plans/ for every point of the front."""
    if not bench.front:
        _write_plan(bench.folder / PLAN, chosen[0], bench.search.cost)
        return
    for place, row in enumerate(chosen):
        _write_plan(bench.folder / "plans" / f"{place:02d}.yaml", row, bench.search.cost)


def _write_plan(path: Path, row: TrialRow, cost: str) -> None:
    head = (
        f"# Kept channels per layer: {row.share:.1%} of the {cost}, {row.psnr[-1]:.2f} dB on the"
        f" scoring clips (trial {row.number}).\n# python src/run.py scope=per_layer 'ratios=\"{path}\"'\n"
    )
    write_atomically(path, typed(head) + yaml.safe_dump(row.counts, sort_keys=False))


def _importance(study: optuna.Study, plan: StudyPlan) -> dict[str, float]:
    """How much each dimension explains of which trials are good; empty where trials are too few to say."""
    if plan.front or len(plan.space.ranges) < 2:
        return {}
    if len(finished_trials(study, plan.rungs)) < FEWEST_FOR_IMPORTANCE:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    importance = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in importance.items()}
