"""A job's result put together from the artifacts of its stages."""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.jobs.planning import config_warnings
from vsrprune.methods.table import METHODS
from vsrprune.results.measured import Measured
from vsrprune.results.result import CROP_PLACES, METRICS, Gates, Layer, Result
from vsrprune.selection.asked import TOLERANCE
from vsrprune.selection.budget import REALTIME, Budget
from vsrprune.selection.scores import Scores as ByLayer
from vsrprune.selection.timed import LATENCY_TOLERANCE
from vsrprune.stages.evaluate.recipe import Evaluation
from vsrprune.stages.job import Job
from vsrprune.stages.prune.recipe import Pruned
from vsrprune.stages.quantise.recipe import Quantised
from vsrprune.stages.reference.recipe import Reference
from vsrprune.stages.score.scores import Scores
from vsrprune.stages.select.recipe import Selection
from vsrprune.stages.sparsify.recipe import Sparsified
from vsrprune.store.atomic import parse_json, write_atomically, write_json
from vsrprune.store.store import Artifact, Store


@dataclass(frozen=True)
class Collected:
    """A finished job whose folder is up to date; `result` is None where `until` ends the job before its evaluation."""

    result: Result | None


def collect(job: Job, store: Store, folder: Path) -> Collected | None:
    """Write the job's files into `folder` from its artifacts; None if one of them is missing or damaged.

    result.json, measured.json, metrics.jsonl and the crops; only metrics.jsonl if `until` ends the job earlier.
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
        return Collected(None)
    result = _result(job, artifacts)
    _copy_crops(artifacts, folder / "crops")
    measured = Measured.load(artifacts["measure"].folder)
    # Jobs of one plan share a measurement; the seconds are those of this job's own stages.
    replace(measured, stage_seconds={name: artifact.seconds for name, artifact in artifacts.items()}).save(folder)
    # Last: whoever finds a result finds the other files beside it.
    result.save(folder)
    return Collected(result)


def has_its_result(job: Job, folder: Path) -> bool:
    """Whether a folder holds what `collect` would write there, as far as the keys of the job's stages tell."""
    try:
        Measured.load(folder)
        return Result.load(folder).stages == {stage.name: stage.key for stage in job.stages}
    except UserError:  # none, or a damaged one
        return False


def _metrics(name: str, artifact: Artifact) -> str:
    """Its curves under the name that the stage has in this job: jobs share a stage in different rounds."""
    path = artifact.path(METRICS)
    rows = [parse_json(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return "".join(json.dumps({**row, "stage": name}) + "\n" for row in rows)


def _copy_crops(artifacts: Mapping[str, Artifact], target: Path) -> None:
    for name in ("reference", "evaluate"):
        for crop in sorted(artifacts[name].folder.glob("crops/*.png")):
            target.mkdir(parents=True, exist_ok=True)
            copy = target / crop.name
            if not (copy.is_file() and filecmp.cmp(crop, copy, shallow=False)):
                shutil.copyfile(crop, copy)
    places = Reference.load(artifacts["reference"].folder).crops
    if places:
        write_json(target / CROP_PLACES, [asdict(place) for place in places])


def _result(job: Job, artifacts: Mapping[str, Artifact]) -> Result:
    reference = Reference.load(artifacts["reference"].folder)
    pruned = Pruned.load(artifacts["prune"].folder)
    evaluation = Evaluation.load(artifacts["evaluate"].folder)
    selection = Selection.load(artifacts["select"].folder)
    gates = Sparsified.load(artifacts["sparsify"].folder).gates if "sparsify" in artifacts else None
    scores = Scores.load(artifacts["score"].folder).by_layer if "score" in artifacts else None
    kept = selection.plan.kept_counts
    result = Result(
        knobs=job.config.knobs(),
        rule=job.config.rule,
        scale=job.arguments.scale,
        quality={
            "baseline": reference.baseline,
            "dense": reference.dense,
            "before_cut": pruned.before_cut,
            "after_cut": pruned.after_cut,
            "finetuned": evaluation.finetuned,
        },
        cost={"dense": reference.cost, "pruned": evaluation.cost},
        layers=[Layer(group.name, group.part, group.kind, kept[group.name], group.size) for group in job.layout.groups],
        budget=selection.budget,
        gates=gates,
        equivalence=pruned.equivalence,
        hidden_error=evaluation.hidden_error,
        scores=None if scores is None else {name: values.tolist() for name, values in scores.items()},
        plan=selection.plan,
        stages={stage.name: stage.key for stage in job.stages},
        steps=_steps(job),
        notes=[
            *reference.notes,
            *config_warnings(job.config),
            *_warnings(selection.budget, gates),
            *_degenerate(job, selection.plan, reference, scores or {}),
        ],
        temporal_gain=reference.temporal_gain,
        flow_photometric=reference.flow_photometric,
        test={**reference.test, "finetuned": evaluation.test} if evaluation.test else {},
        int8=Quantised.load(artifacts["quantise"].folder).found if "quantise" in artifacts else None,
    )
    return replace(result, notes=[*result.notes, *result.time_caveats])


def _steps(job: Job) -> int:
    """Training steps after pretraining; of a network from scratch those beyond schedule.pretrain.steps."""
    lengths, schedule = job.config.lengths, job.config.schedule
    scratch = METHODS[job.config.method.name].start == "scratch"
    return lengths.scratch - schedule.pretrain.steps if scratch else lengths.before + lengths.finetune


THINNEST = 0.25  # of the layers; with more of them at min_kept, it is that limit which shapes the network


def _degenerate(job: Job, plan: PrunePlan, reference: Reference, scores: ByLayer) -> list[str]:
    """What makes a comparison say little."""
    notes, groups, limit = [], job.layout.groups, job.config.min_kept
    thinnest = sum(plan.kept_counts[group.name] <= limit < group.size for group in groups)
    if thinnest > THINNEST * len(groups):
        notes.append(f"{thinnest} of {len(groups)} layers are at min_kept={limit}")
    # Such as those by gates of published weights, which had none and are all one.
    chosen = [group.name for group in groups if 0 < plan.kept_counts[group.name] < group.size and group.name in scores]
    tied = sum(len(set(scores[name].tolist())) == 1 for name in chosen)
    if tied and job.config.units == "ranked":
        notes.append(
            f"in {tied} of {len(chosen)} layers all units have the same score: which of them go is not by what they"
            " are worth"
        )
    if reference.dense.psnr < reference.baseline.psnr:
        notes.append(
            f"the dense network is below the input's baseline ({reference.dense.psnr:.2f} dB against"
            f" {reference.baseline.psnr:.2f} dB): what is cut from it says nothing about pruning"
        )
    return notes


GATE_WARNING = 0.05  # a cut unit whose gate is further from zero still carried signal


def _warnings(budget: Budget, gates: Gates | None) -> list[str]:
    warnings = []
    if gates is not None and gates.max_cut > GATE_WARNING:
        warnings.append(
            f"max |gamma| over the cut units was {gates.max_cut:.3f} at the cut, above {GATE_WARNING}:"
            " lengthen schedule.sparsify or raise its gate_lr"
        )
    if budget.target == REALTIME:
        return warnings + _not_in_time(budget)
    if abs(budget.deviation) > (LATENCY_TOLERANCE if budget.target == "latency" else TOLERANCE):
        warnings.append(
            f"the nearest reachable plan differs by {budget.deviation:+.1%} from the {budget.target} to be kept:"
            " min_kept, round_to or whole channels stand in the way"
        )
    return warnings


def _not_in_time(budget: Budget) -> list[str]:
    """How near a network comes that does not reach the frames per second that were asked for."""
    if budget.reached <= budget.wanted:
        return []
    return [
        f"{1000 / budget.wanted:.3g} frames per second are not reached on this device: the fastest network that was"
        f" tried makes {1000 / budget.reached:.3g} ({budget.reached:.1f} ms per frame, the dense one"
        f" {budget.dense:.1f} ms)"
    ]


def read_measured(folder: Path) -> Measured:
    """measured.json of a job's folder; raises UserError if there is none."""
    return Measured.load(folder)
