"""Content keys of a job's stages, computed from configuration alone.

A stage's settings hold what its result depends on: its own knobs without the idle ones, the key of the stage before
it, the data, the seeds, the precision. Paths, loggers, devices, worker and thread counts stay out. Two jobs whose
settings for a stage agree share its artifact.
"""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import Any

from vsrprune.config.job import Config
from vsrprune.methods.method import Method
from vsrprune.methods.table import METHODS
from vsrprune.store.store import content_key

# The stages that `until` can name, in their order.
STAGES = ("pretrain", "score", "select", "sparsify", "prune", "finetune", "evaluate")
# Raise a stage's number when a change in code changes what it computes.
VERSIONS = {
    "pretrain": 1,
    "reference": 1,
    "align": 1,
    "score": 1,
    "timing": 1,
    "select": 2,
    "sparsify": 1,
    "prune": 1,
    "finetune": 1,
    "evaluate": 1,
    "measure": 5,
}


@dataclass(frozen=True)
class DataIdentity:
    """Hashes of the training and the held-out clips."""

    train: str
    val: str


@dataclass(frozen=True)
class StagePlan:
    """One stage of a job: its key, and the settings that the key is a hash of."""

    stage: str
    key: str
    settings: dict[str, Any]
    cut_round: int = 0  # of score, select and sparsify before the last round of a job, from 1

    @property
    def name(self) -> str:
        """The stage's name, which says the round too where a later one follows."""
        return f"{self.stage}_{self.cut_round}" if self.cut_round else self.stage


def plan_stages(config: Config, data: DataIdentity, pretrained_hash: str = "", flow_hash: str = "") -> list[StagePlan]:
    """The stages of a job in the order in which they run, up to and with `config.until`.

    pretrained_hash: hash of the file named by `config.pretrained`, which then takes the place of pretraining.
    flow_hash: hash of the file named by `config.pretrained_flow`, the flow net that pretraining starts from.
    """
    stages: dict[str, StagePlan] = {}

    def add(stage: str, cut_round: int = 0, /, **settings: Any) -> str:
        settings = {"stage": stage, "version": VERSIONS[stage], **settings}
        plan = StagePlan(stage, content_key(settings), settings, cut_round)
        stages[plan.name] = plan
        return plan.key

    training, seed = _training(config, data), {"seed": config.seed}
    model = config.model.identity
    if pretrained_hash:
        pretrain = add("pretrain", model=model, file=pretrained_hash)
    else:
        pretrain = add(
            "pretrain",
            model=model,
            **training,
            **_pretraining(config, flow_hash),
            seed=config.pretrain_seed,
        )
    compared = config.comparison
    comparison = {"clips": data.val, "channel": compared.channel, "crop": compared.crop}
    comparison |= {"centre": True} if compared.centre else {}
    temporal = {"temporal_pairs": config.evaluate.temporal_pairs} if config.evaluate.temporal else {}
    reference = add("reference", parent=pretrain, crops=config.evaluate.crops, **comparison, **temporal)
    method = METHODS[config.method.name]
    ranked = pretrain
    if method.aligned_first:
        cuts = {"rule": config.rule, **_selection(config)}
        ranked = add("align", parent=pretrain, **training, schedule=asdict(config.schedule.align), cuts=cuts, **seed)
    for cut_round in (*range(1, config.rounds), 0):
        if method.plan == "ranked":
            scoring = {"rule": config.rule, "score": config.score, **_seed_if_random(config)}
            ranked = add("score", cut_round, parent=ranked, **scoring)
        timing = {"timing": add("timing", model=model, **_timing(config))} if config.round_to == "auto" else {}
        share = _selection(config.in_round(cut_round or config.rounds))
        select = parent = add("select", cut_round, **_shape(method, ranked, model), **timing, **share)
        if config.method.sparsify:
            how = {"schedule": asdict(config.schedule.sparsify), **_penalty(method), **seed}
            ranked = parent = add("sparsify", cut_round, parent=parent, **training, **how)
    start: dict[str, Any] = {} if method.start == "cut" else {"start": method.start}
    if method.start == "scratch":
        start["weights"] = "narrowed"  # once they were drawn for the narrow shape
    parent = add("prune", parent=parent, **start, **comparison, **(seed if method.start == "scratch" else {}))
    parent = add("finetune", parent=parent, **training, **_finetuning(config, method, pretrain, flow_hash), **seed)
    add("evaluate", parent=parent, reference=reference, crops=config.evaluate.crops)
    evaluated = config.evaluate
    add(
        "measure",
        # Time depends on the shapes alone: jobs that train the same plan differently share it. PSNR does not.
        parent=select if evaluated.precision == "32" else parent,
        **_place(config),
        **({"compile": True} if evaluated.compile else {}),
        frames=evaluated.latency_frames,
        repeats=evaluated.latency_repeats,
    )
    last = "measure" if config.until == "evaluate" else config.until
    names = list(stages)
    while last not in names:  # until=sparsify with a one-shot method, until=score with one that ranks nothing
        last = STAGES[STAGES.index(last) - 1]
    wanted = names[: names.index(last) + 1]
    if config.until != "evaluate":
        wanted = [name for name in wanted if name != "reference"]
    return [stages[name] for name in wanted]


def _training(config: Config, data: DataIdentity) -> dict[str, Any]:
    schedule = config.schedule
    return {
        "clips": data.train,
        "batch": schedule.batch,
        "patch": schedule.patch,
        "frames": schedule.frames,
        "precision": config.trainer.precision,
    }


def _pretraining(config: Config, flow_hash: str) -> dict[str, Any]:
    """The schedule; what it says of a trained flow net is idle without one."""
    schedule = asdict(config.schedule.pretrain)
    if flow_hash:
        return {"schedule": schedule, "flow": flow_hash}
    return {"schedule": {name: value for name, value in schedule.items() if not name.startswith("flow_")}}


def _place(config: Config) -> dict[str, Any]:
    """What times depend on beside the network: the one part of a key that differs between machines."""
    precision = config.evaluate.precision
    return {
        "host": platform.node(),
        "accelerator": config.trainer.accelerator,
        "threads": config.trainer.threads,
        "size": config.evaluate.latency_size,
        **({} if precision == "32" else {"precision": precision}),
    }


def _timing(config: Config) -> dict[str, Any]:
    """Settings of the table of timed operations: which counts are timed, and where."""
    return {"rule": config.rule, "min_kept": config.min_kept, **_place(config)}


def _shape(method: Method, ranked: str, model: dict[str, Any]) -> dict[str, Any]:
    """What a plan depends on beside the limits: the scores, the weights that are masked, or the widths alone."""
    if method.plan == "narrow":
        return {"plan": "narrow", "model": model}
    return {"parent": ranked} | ({} if method.plan == "ranked" else {"plan": method.plan})


def _penalty(method: Method) -> dict[str, Any]:
    """Settings of sparsify that are not SSL's."""
    penalty = {} if method.penalty == "gates" else {"penalty": method.penalty}
    return penalty | ({"normalised": True} if method.normalised else {})


def _finetuning(config: Config, method: Method, dense: str, flow_hash: str) -> dict[str, Any]:
    """The schedule of the last training stage, and what the dense network teaches in it."""
    weight = config.method.output_weight
    taught = {"tf_weight": config.tf_weight, **({"output_weight": weight} if weight else {})}
    if method.start != "scratch":
        return {"schedule": asdict(config.schedule.finetune), **taught}
    teacher = {"teacher": dense} if weight or config.tf_weight else {}  # a student from scratch is no child of it else
    return {**_pretraining(config, flow_hash), "steps": config.schedule.steps_from_scratch, **taught, **teacher}


def _seed_if_random(config: Config) -> dict[str, Any]:
    return {"seed": config.seed} if config.score == "random" else {}


def _selection(config: Config) -> dict[str, Any]:
    """The knobs of select that are not idle: a random ranking has no order, given ratios have no ratio."""
    knobs: dict[str, Any] = {"scope": config.scope, "min_kept": config.min_kept, "round_to": config.round_to}
    if config.scope == "per_layer":
        knobs["ratios"] = config.ratios
    else:
        knobs["target"] = config.target
        knobs |= {"target_ms": config.target_ms} if config.target_ms else {"ratio": config.ratio}
    if config.score != "random":
        knobs["order"] = config.order
    return knobs | ({"parts": config.parts_cut} if config.parts_cut else {})
