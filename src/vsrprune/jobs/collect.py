"""A job's result put together from the artifacts of its stages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsrprune.channels.plan import PrunePlan
from vsrprune.jobs.planning import Job, config_warnings
from vsrprune.results.measured import Measured
from vsrprune.results.result import CROP_PLACES, METRICS, Cost, Equivalence, Gates, Layer, Quality, Result
from vsrprune.selection.units import LATENCY_TOLERANCE, TOLERANCE, Budget
from vsrprune.store.atomic import write_atomically, write_json
from vsrprune.store.store import Artifact, Store


def collect(job: Job, store: Store, folder: Path) -> Result | None:
    """Write the job's files into `folder` from its artifacts; None if one of them is missing or damaged.

    result.json, measured.json, metrics.jsonl and the crops; only metrics.jsonl if `until` stops the job earlier.
    """
    artifacts: dict[str, Artifact] = {}
    for stage in job.stages:
        artifact = store.find(stage.stage, stage.key)
        if artifact is None:
            return None
        artifacts[stage.name] = artifact
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / METRICS, "".join(_metrics(name, artifact) for name, artifact in artifacts.items()))
    if "evaluate" not in artifacts:
        return None
    result = _result(job, artifacts)
    _copy_crops(artifacts, folder / "crops")
    measured = Measured.from_json(artifacts["measure"].json("measured.json"))
    replace(measured, stage_seconds={name: artifact.seconds for name, artifact in artifacts.items()}).save(folder)
    result.save(folder)
    return result


def _metrics(name: str, artifact: Artifact) -> str:
    """Its curves under the name that the stage has in this job: jobs share a stage in different rounds."""
    path = artifact.path(METRICS)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return "".join(json.dumps({**row, "stage": name}) + "\n" for row in rows)


def _copy_crops(artifacts: Mapping[str, Artifact], target: Path) -> None:
    for name in ("reference", "evaluate"):
        for crop in sorted(artifacts[name].folder.glob("crops/*.png")):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(crop, target / crop.name)
    places = artifacts["reference"].json("reference.json")["crops"]
    if places:
        write_json(target / CROP_PLACES, places)


def _result(job: Job, artifacts: Mapping[str, Artifact]) -> Result:
    reference = artifacts["reference"].json("reference.json")
    prune = artifacts["prune"].json("prune.json")
    evaluation = artifacts["evaluate"].json("evaluation.json")
    selection = artifacts["select"].json("selection.json")
    quality = {
        "baseline": reference["baseline"],
        "dense": reference["dense"],
        "before_cut": prune["before_cut"],
        "after_cut": prune["after_cut"],
        "finetuned": evaluation["finetuned"],
    }
    plan, budget = PrunePlan.from_json(selection["plan"]), Budget.from_json(selection["budget"])
    kept = plan.kept_counts
    layers = [Layer(group.name, group.part, group.kind, kept[group.name], group.size) for group in job.layout.groups]
    gates = Gates(**artifacts["sparsify"].json("gates.json")) if "sparsify" in artifacts else None
    return Result(
        knobs=job.config.knobs(),
        rule=job.config.rule,
        quality={name: Quality(**values) for name, values in quality.items()},
        cost={
            "dense": _cost(reference["cost"]),
            "pruned": _cost(evaluation["cost"]),
        },
        layers=layers,
        budget=budget,
        gates=gates,
        equivalence=Equivalence(**prune["equivalence"]) if prune["equivalence"] else None,
        hidden_error=evaluation["hidden_error"],
        scores=artifacts["score"].json("scores.json") if "score" in artifacts else None,
        plan=plan,
        stages={stage.name: stage.key for stage in job.stages},
        notes=[*reference["notes"], *config_warnings(job.config), *_warnings(budget, gates)],
    )


def _cost(values: Mapping[str, Any]) -> Cost:
    return Cost(**{**values, "size": tuple(values["size"])})


GATE_WARNING = 0.05  # a cut unit whose gate is further from zero still carried signal


def _warnings(budget: Budget, gates: Gates | None) -> list[str]:
    warnings = []
    if gates is not None and gates.max_cut > GATE_WARNING:
        warnings.append(
            f"max |gamma| over the cut units was {gates.max_cut:.3f} at the cut, above {GATE_WARNING}:"
            " lengthen schedule.sparsify or raise its gate_lr"
        )
    if abs(budget.deviation) > (LATENCY_TOLERANCE if budget.target == "latency" else TOLERANCE):
        warnings.append(
            f"the nearest reachable plan differs by {budget.deviation:+.1%} from the {budget.target} to be kept:"
            " min_kept, round_to or whole channels stand in the way"
        )
    return warnings


def read_measured(folder: Path) -> Measured:
    """measured.json of a job's folder; raises UserError if there is none."""
    return Measured.load(folder)
