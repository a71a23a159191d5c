"""Search per-layer ratios from the dense network to full runs of the winner beside its references."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna

from vsrprune.host.naming import mark_latest
from vsrprune.host.tracking.table import is_tracked
from vsrprune.host.tracking.tracker import RunLabel
from vsrprune.search.bench import SearchBench, make_dense, open_bench
from vsrprune.search.config import SearchJobConfig
from vsrprune.search.finals import front_plans, full_runs, winner_plans
from vsrprune.search.found import SEARCH, chosen_trials, found_json, write_plans
from vsrprune.search.mirror import StudyMirror, mirrored
from vsrprune.search.references import known_points, ratios_of, score_references
from vsrprune.search.studies import finer_plan, first_plan, open_planned, run_study, study_settings
from vsrprune.search.study import StudyPlan, ask_first, best_trial, check_storage, quiet
from vsrprune.store.sealed import read_sealed, write_sealed
from vsrprune.store.store import content_key


def search_ratios(config: SearchJobConfig, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run a search in `folder`, or what of it is not there yet; the content of its search.json.

    The dense network comes first, then the references, the study, a finer study around its best trial, and full runs.
    Raises UserError for knobs that cannot be used and for a study that was begun with other settings.
    """
    bench = open_bench(config, folder, say)
    quiet()
    check_storage(bench.storage)  # before the hours that the dense network takes
    mark_latest(Path(config.runs_dir).expanduser(), folder)  # now that nothing more is refused
    make_dense(bench)
    references = score_references(bench)
    plan = first_plan(bench)
    study = open_planned(bench, bench.search.study, plan)
    # The plans of the rules are the first trials, where the space can express them, so the search begins with what is
    # known to be good.
    ask_first(study, known_points(bench, plan.space, references))
    with _mirrored(bench) as mirror:
        run_study(bench, study, plan, "search", mirror)
        if bench.search.refine:
            study, plan = _refine(bench, study, plan, mirror)
        chosen = chosen_trials(study, plan)
        write_plans(bench, chosen)
        found = found_json(bench, study, plan, chosen, references)
        write_sealed(folder / SEARCH, found)  # before the full runs, which may take hours
        plans = front_plans(chosen, references) if bench.front else winner_plans(chosen[0], references)
        found["finals"] = [row.to_json() for row in full_runs(bench, plans)]
        write_sealed(folder / SEARCH, found)
        mirror.finished(found)
    return found


def _refine(
    bench: SearchBench, study: optuna.Study, plan: StudyPlan, mirror: StudyMirror
) -> tuple[optuna.Study, StudyPlan]:
    """Run a study with a ratio per layer around the best trial of `study`."""
    best = ratios_of(bench.layout, best_trial(study, plan.rungs).user_attrs["counts"])
    finer = finer_plan(bench, best)
    # The name holds the centre: more trials of the first study may find another, and its trials are not comparable.
    name = f"{bench.search.study}-refined-{content_key(study_settings(bench, finer))}"
    refined = open_planned(bench, name, finer)
    ask_first(refined, [finer.space.nearest(best)])
    run_study(bench, refined, finer, "refine", mirror)
    return refined, finer


def _mirrored(bench: SearchBench) -> AbstractContextManager[StudyMirror]:
    tracking = bench.config.tracking
    return mirrored(
        replace(tracking, to=[] if _is_mirrored(bench) else tracking.to),
        RunLabel(bench.folder.name, bench.folder.name, "search", tracking.project, tracking.entity),
        config={**bench.base.knobs(), "search": asdict(bench.search)},
        folder=bench.folder,
        warn=lambda text: bench.say(f"warning: {text}"),
    )


def _is_mirrored(bench: SearchBench) -> bool:
    """Whether an earlier call mirrored all that this one asks for."""
    path = bench.folder / SEARCH
    if not (path.is_file() and all(is_tracked(bench.folder, name) for name in bench.config.tracking.to)):
        return False
    try:
        found = read_sealed(path)
        return bool(found["finals"]) and len(found["trials"]) >= (bench.search.refine or bench.search.trials)
    except (OSError, ValueError, LookupError, TypeError):
        return False  # damaged: it is written again
