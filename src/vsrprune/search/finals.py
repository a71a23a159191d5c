"""Full runs of what a search chose and of its references: fresh seeds, held-out clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vsrprune.jobs.planning import plan_job
from vsrprune.jobs.runner import run_job
from vsrprune.results.result import Result
from vsrprune.search.bench import SearchBench
from vsrprune.search.rows import FinalRow, ReferenceRow, ScoredPlan, TrialRow

FRONT_FINALS = 3  # points of a front that get full runs


def winner_plans(winner: TrialRow, references: Sequence[ReferenceRow]) -> dict[str, ScoredPlan]:
    """The winner and all references, by the names of their runs."""
    return {"winner": winner, **{row.name: row for row in references}}


def front_plans(front: Sequence[TrialRow], references: Sequence[ReferenceRow]) -> dict[str, ScoredPlan]:
    """Points spread over the front, each followed by the global ranking's plan of the nearest cost."""
    ranked = [row for row in references if row.name == "global"]
    plans: dict[str, ScoredPlan] = {}
    # A set, since a short front has fewer points than FRONT_FINALS.
    for place in sorted({round(place) for place in np.linspace(0, len(front) - 1, FRONT_FINALS)}):
        point = front[place]
        beside = min(ranked, key=lambda row: abs(row.share - point.share))
        plans[f"front-{place:02d}"] = point
        plans[f"global-{beside.budget:.2f}"] = beside
    return plans


def full_runs(bench: SearchBench, plans: Mapping[str, ScoredPlan]) -> list[FinalRow]:
    """Run every plan with every fresh seed, or take the result that is there."""
    return [_full_run(bench, name, plan, seed) for name, plan in plans.items() for seed in bench.search.final_seeds]


def _full_run(bench: SearchBench, name: str, plan: ScoredPlan, seed: int) -> FinalRow:
    # The counts are the plan that was chosen: no target and no rounding may change them again.
    config = replace(bench.base, scope="per_layer", target="units", round_to=1, ratios=dict(plan.counts), seed=seed)
    folder = bench.folder / "finals" / f"{name},seed={seed}"
    bench.say(f"full run: {name}, seed {seed}")
    result = run_job(plan_job(config), folder, bench.say)
    assert isinstance(result, Result)  # until=evaluate
    return FinalRow(
        name=name,
        seed=seed,
        share=plan.share,
        scoring_psnr=plan.psnr[-1],
        psnr=result.quality["finetuned"].psnr,
        folder=str(folder.relative_to(bench.folder)),
    )
