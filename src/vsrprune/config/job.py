"""Typed schema of every knob and config group; a wrong value dies here, before any work.

`Config` is what Hydra composes and what OmegaConf checks the types of; `validate` checks the values. Nothing below
the pipeline sees these classes: functions take plain arguments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vsrprune.errors import UserError, one_of
from vsrprune.methods.table import METHODS
from vsrprune.results.protocols import BICUBIC, BLUR, OWN, PROTOCOLS, Comparison, comparison
from vsrprune.selection.asked import Asked

BATCH_SYSTEMS = ("slurm", "pbs", "sge")
STAGES = ("pretrain", "score", "select", "sparsify", "prune", "finetune", "evaluate")
SHAPES = ("cosine", "onecycle", "constant")
TIMED_PRECISIONS = ("32", "bf16", "16")
DEGRADATIONS = (*BICUBIC, *BLUR)
BLUR_SCALE = 4  # the only one that published numbers with blur have
TRAINING_SETS, TEST_SETS = ("reds", "vimeo90k"), ("reds4", "vid4", "udm10")
PUBLISHED_SETS = (*TRAINING_SETS, *TEST_SETS)
# The knobs of data that only some sets read.
DATA_READERS = {
    **dict.fromkeys(
        ("path", "train", "val", "max_frames", "mirror", "cache", "cache_dir"), ("folder", *PUBLISHED_SETS)
    ),
    **dict.fromkeys(("halve", "scene_cut"), ("folder",)),
    **dict.fromkeys(("train_set", "train_path"), PUBLISHED_SETS),
}
# The options that each task reads.
TASKS: Mapping[str, tuple[str, ...]] = {"sr": (), "denoise": ("sigma",), "deblur": ("blur_frames",)}
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass
class ModelConfig:
    """An architecture (a name in models.architectures) and its arguments; None are those that it does not read.

    name: of the preset.
    """

    name: str = ""
    network: str = "basicvsr"
    upscale_factors: list[int] | None = field(default_factory=lambda: [2, 2])
    file: str | None = None
    arguments: Any = None
    channels: int | None = None
    blocks: int | None = None
    upsampler_channels: int | None = None
    bidirectional: bool | None = None
    slope: float | None = None
    flow_levels: int | None = None
    flow_kernel: int | None = None
    flow_widths: list[int] | None = None
    extract_blocks: int | None = None
    reconstruction_blocks: int | None = None
    deformable_groups: int | None = None
    max_residue: float | None = None
    window: int | None = None
    groups: int | None = None
    reduction: int | None = None
    residual_scale: float | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The arguments that have a value."""
        values = {name: value for name, value in asdict(self).items() if name not in ("name", "network")}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def identity(self) -> dict[str, Any]:
        """What tells a network from others."""
        return {"network": self.network} | self.given


def tiny_model() -> ModelConfig:
    """The model of conf/config.yaml's defaults."""
    return ModelConfig(
        name="basicvsr_tiny",
        channels=16,
        blocks=3,
        upsampler_channels=16,
        bidirectional=True,
        slope=0.1,
        flow_levels=3,
        flow_kernel=3,
        flow_widths=[16, 16],
    )


@dataclass
class TaskConfig:
    """What a network restores: low resolution (sr), or at scale 1 noise (denoise) or motion blur (deblur).

    sigma: standard deviation of the noise, in 8-bit steps. blur_frames: an odd number of frames that are averaged.
    """

    name: str = "sr"
    sigma: float = 25.0
    blur_frames: int = 7

    @property
    def options(self) -> dict[str, float]:
        """The options that the task reads, by name."""
        return {name: getattr(self, name) for name in TASKS[self.name]}


@dataclass
class DataConfig:
    """Where clips come from, which are held out, and how outputs are compared with the truth.

    low: the low-resolution frames of a published set, bi (bicubic) or bd (blurred); made where they are not on disk.
    degradation: how they are made; low=bd takes a blur, BasicVSR's if none is named. train_set, train_path: another set
    to train on. mirror: every training sequence is followed by itself backwards. cache: decode once, to memory maps in
    cache_dir (store_dir/cache). on_error: what to do with clips that cannot be read, fail or skip. scene_cut: cut
    videos where the luma histogram changes by more than this share; 0 for never.
    """

    name: str = "demo"
    path: str = ""
    low: str = "bi"
    train_set: str = ""
    train_path: str = ""
    train: list[str] = field(default_factory=list)
    val: list[str] = field(default_factory=list)
    val_share: float = 0.2
    split_seed: int = 0
    max_frames: int = 0
    halve: bool = False
    mirror: bool = False
    cache: bool = False
    cache_dir: str = ""
    on_error: str = "fail"
    scene_cut: float = 0.0
    demo_seed: int = 0
    demo_frames: int = 10
    demo_train_per_photo: int = 4
    demo_val_per_photo: int = 2
    degradation: str = "bicubic"
    channel: str | None = None  # None: by evaluate.protocol
    crop: int | None = None

    @property
    def shrinking(self) -> str:
        """How low-resolution frames are made where there are none: low=bd asks for a blur, whatever else is said."""
        return BLUR[0] if self.low == "bd" and self.degradation not in BLUR else self.degradation


@dataclass
class PretrainSchedule:
    """Stage 0, the dense network with its gates.

    With pretrained_flow=FILE the flow net stands still for flow_frozen_steps, then trains at flow_lr_share of the rate.
    """

    steps: int = 500
    lr: float = 2e-3
    shape: str = "onecycle"
    flow_frozen_steps: int = 0
    flow_lr_share: float = 0.125


@dataclass
class AlignSchedule:
    """ASSL's stage before the score: layers that share channels come to agree; `weight` is of the alignment loss."""

    steps: int = 5_000
    lr: float = 2e-4
    gate_lr: float = 2e-4
    weight: float = 1.0


@dataclass
class SparsifySchedule:
    """Stage 3. lambda grows by `growth` every `growth_interval` steps up to `maximum`, then `hold_steps` follow."""

    growth: float = 1e-4
    growth_interval: int = 5
    maximum: float = 0.1
    hold_steps: int = 14_000
    lr: float = 2e-4
    gate_lr: float = 2e-4

    @property
    def growth_steps(self) -> int:
        """Steps until lambda reaches its maximum."""
        return math.ceil(round(self.maximum / self.growth, 6)) * self.growth_interval

    @property
    def steps(self) -> int:
        """Length of the stage."""
        return self.growth_steps + self.hold_steps


@dataclass
class FinetuneSchedule:
    """Stage 5. train_flow=false keeps the flows of student and teacher the same."""

    steps: int = 300_000
    lr: float = 2e-4
    shape: str = "cosine"
    train_flow: bool = False


@dataclass
class ScheduleConfig:
    """Batches (clips per step, low-resolution patch side, frames per clip) and the length of each stage.

    scratch_steps: of networks that are trained from scratch (lite, distill), by the rate and shape of pretrain; 0 for
    as many as a pruned network has in all: pretrain, sparsify and finetune.
    """

    name: str = "demo"
    batch: int = 4
    patch: int = 24
    frames: int = 5
    log_every: int = 10
    checkpoint_every: int = 100
    scratch_steps: int = 0
    pretrain: PretrainSchedule = field(default_factory=PretrainSchedule)
    align: AlignSchedule = field(default_factory=AlignSchedule)
    sparsify: SparsifySchedule = field(default_factory=SparsifySchedule)
    finetune: FinetuneSchedule = field(default_factory=FinetuneSchedule)

    @property
    def steps_from_scratch(self) -> int:
        """Length of a training from scratch."""
        return self.scratch_steps or self.pretrain.steps + self.sparsify.steps + self.finetune.steps


@dataclass
class EvaluateConfig:
    """latency_size: height and width of the low-resolution frame that is timed.

    precision: of the networks that are timed; `bf16` and `16` compute under autocast, and the PSNR that this costs is
    measured too. compile: time them through torch.compile, which takes minutes.
    protocol: a published way to compare, or `full`, which compares every frame by data.channel and data.crop.
    temporal_pairs: measure temporal consistency on so many pairs of frames of every clip; 0 for all.
    """

    latency_size: list[int] = field(default_factory=lambda: [180, 320])
    latency_frames: int = 3
    latency_repeats: int = 5
    precision: str = "32"
    compile: bool = False
    crops: int = 2
    protocol: str = OWN
    temporal: bool = True
    temporal_pairs: int = 8


@dataclass
class TrainerConfig:
    """What the stages run on. threads=0 lets PyTorch choose.

    checkpoint_frames: train with less memory and more time: a frame is computed again when its gradients are due.
    """

    name: str = "cpu"
    accelerator: str = "cpu"
    devices: int = 1
    precision: str = "32-true"
    threads: int = 0
    workers: int = 0
    checkpoint_frames: bool = False


@dataclass
class TrackingConfig:
    """Weights & Biases: offline writes real wandb files without account or network.

    per_trial: a search makes a run per trial, instead of one for its study.
    """

    mode: str = "offline"
    project: str = "vsrprune"
    entity: str = ""
    group: str = ""
    per_trial: bool = False


@dataclass
class MethodConfig:
    """A pruning method of vsrprune.methods: the knobs it implies stand in its YAML file.

    sparsify=false cuts in one shot. output_weight: of the loss that holds outputs to the dense network's while the
    pruned one is fine-tuned.
    """

    name: str = "ssl"
    sparsify: bool = True
    output_weight: float = 0.0


@dataclass
class LauncherConfig:
    """How a sweep's jobs are run.

    jobs: at most so many at once. threads: of each job's training; 0 divides this machine's among the jobs. address:
    of a running scheduler (dask) or cluster (ray). options: of one batch job (slurm, pbs, sge), as dask-jobqueue names
    them.
    """

    name: str = "local"
    jobs: int = 1
    threads: int = 0
    address: str = ""
    options: Any = None


@dataclass
class StoreConfig:
    """Housekeeping instead of a job; and how long a stalled process on another host keeps its stage."""

    action: str = ""
    yes: bool = False
    lease_seconds: float = 60.0


@dataclass
class Config:
    """One job. The flat knobs are the paper's; the groups hold everything else."""

    rsc: Any = True  # checked by hand: OmegaConf would take 7 for true
    residual: str = "aligned"
    ratio: float = 0.5
    target: str = "units"
    target_ms: float = 0.0
    scope: str = "global"
    ratios: Any = None
    score: str = "l1"
    order: str = "min"
    tf_weight: float = 1.0
    min_kept: int = 1
    parts: list[str] = field(default_factory=list)
    round_to: Any = 1
    rounds: int = 1
    seed: int = 0
    pretrain_seed: int = 0
    until: str = "evaluate"
    dry_run: bool = False
    doctor: bool = False
    pretrained: str = ""
    pretrained_flow: str = ""
    store_dir: str = "store"
    runs_dir: str = "runs"
    model: ModelConfig = field(default_factory=tiny_model)
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    @property
    def rule(self) -> str:
        """The residual rule: rsc, or what `residual` names without it."""
        return "rsc" if self.rsc else self.residual

    @property
    def parts_cut(self) -> list[str] | None:
        """The parts of the network that may be cut; None for all."""
        return list(self.parts) or None

    def in_round(self, cut_round: int) -> Config:
        """The same with what is to be cut by the end of a round, 1 to `rounds`: equal steps towards `ratio`."""
        return replace(self, ratio=self.ratio * (cut_round / self.rounds))

    @property
    def ranking_order(self) -> str:
        """The order that ranks: a random score has none, so that it is idle there."""
        return "min" if self.score == "random" else self.order

    @property
    def asked(self) -> Asked:
        """What the selection is asked for."""
        return Asked(
            rule=self.rule,
            ratio=self.ratio,
            target=self.target,
            scope=self.scope,
            order=self.ranking_order,
            min_kept=self.min_kept,
            round_to=self.round_to,
            ratios=self.ratios,
            parts=tuple(self.parts) or None,
        )

    @property
    def comparison(self) -> Comparison:
        """How outputs are compared with the truth: what evaluate.protocol and data say together."""
        return comparison(self.evaluate.protocol, self.data.channel, self.data.crop)

    def knobs(self) -> dict[str, Any]:
        """All values, nested; without what differs between machines, and with what the protocol decides."""
        values = asdict(self)
        values["task"] = {"name": self.task.name, **self.task.options}
        values["model"] = {"name": self.model.name, **self.model.identity}
        values["data"] |= {"channel": self.comparison.channel, "crop": self.comparison.crop}
        for name in ("store_dir", "runs_dir", "dry_run", "doctor", "launcher", "tracking", "store"):
            del values[name]
        for name in ("cache", "cache_dir"):
            del values["data"][name]
        return values


def validate(config: Config) -> None:
    """Raise UserError for the first value that is out of range, and for pairs of knobs that contradict each other.

    Replaces `config.ratios` by the content of the file it names.
    """
    _check_choices(config)
    _check_numbers(config)
    _check_pairs(config)
    config.ratios = _load_ratios(config.ratios)


def _check_choices(config: Config) -> None:
    if not isinstance(config.rsc, bool):
        raise UserError(f"rsc must be true or false; got {config.rsc!r}")
    one_of("residual", config.residual, ("aligned", "inner"))
    one_of("target", config.target, ("units", "macs", "params", "latency"))
    one_of("scope", config.scope, ("global", "local", "per_layer"))
    one_of("score", config.score, ("l1", "l1_first", "gate", "random"))
    one_of("order", config.order, ("min", "max"))
    one_of("until", config.until, STAGES)
    if len(set(config.parts)) < len(config.parts):
        raise UserError(f"parts must name each part once, or none for all; got {list(config.parts)}")
    one_of("task.name", config.task.name, TASKS)
    one_of("method.name", config.method.name, METHODS)
    one_of("data.degradation", config.data.degradation, DEGRADATIONS)
    if config.data.channel is not None:
        one_of("data.channel", config.data.channel, ("rgb", "y"))
    one_of("evaluate.protocol", config.evaluate.protocol, (OWN, *PROTOCOLS))
    one_of("data.name", config.data.name, ("demo", "folder", *PUBLISHED_SETS))
    one_of("data.low", config.data.low, ("bi", "bd"))
    one_of("data.train_set", config.data.train_set, ("", "folder", *TRAINING_SETS))
    one_of("data.on_error", config.data.on_error, ("fail", "skip"))
    one_of("store.action", config.store.action, ("", "list", "verify", "clean"))
    one_of("launcher.name", config.launcher.name, ("local", "dask", "ray", *BATCH_SYSTEMS))
    one_of("tracking.mode", config.tracking.mode, ("offline", "online", "none"))
    one_of("schedule.pretrain.shape", config.schedule.pretrain.shape, SHAPES)
    one_of("schedule.finetune.shape", config.schedule.finetune.shape, SHAPES)
    one_of("trainer.accelerator", config.trainer.accelerator, ("cpu", "gpu", "auto"))
    one_of("evaluate.precision", config.evaluate.precision, TIMED_PRECISIONS)
    one_of("trainer.precision", config.trainer.precision, ("32-true", "16-mixed", "bf16-mixed"))
    whole = isinstance(config.round_to, int) and not isinstance(config.round_to, bool)
    if config.round_to != "auto" and not (whole and config.round_to >= 1):
        raise UserError(f"round_to must be auto or a whole number >= 1, such as 8 or 16; got {config.round_to!r}")


def _check_numbers(config: Config) -> None:
    if not 0 <= config.ratio < 1:
        raise UserError(f"ratio must be in [0, 1), the share that is removed; got {config.ratio:g}")
    if not (config.tf_weight >= 0 and math.isfinite(config.tf_weight)):
        raise UserError(f"tf_weight must be a finite number >= 0; got {config.tf_weight:g}")
    weight = config.method.output_weight
    if not (weight >= 0 and math.isfinite(weight)):
        raise UserError(f"method.output_weight must be a finite number >= 0; got {weight:g}")
    if not 0 < config.data.val_share < 1:
        raise UserError(f"data.val_share must be in (0, 1); got {config.data.val_share:g}")
    if not 0 <= config.data.scene_cut < 1:
        raise UserError(f"data.scene_cut must be in [0, 1), 0 for no cuts; got {config.data.scene_cut:g}")
    schedule, data, evaluate = config.schedule, config.data, config.evaluate
    at_least = {
        "min_kept": (config.min_kept, 1),
        "rounds": (config.rounds, 1),
        "seed": (config.seed, 0),
        "pretrain_seed": (config.pretrain_seed, 0),
        "data.max_frames": (data.max_frames, 0),
        "data.crop": (data.crop or 0, 0),
        "data.demo_seed": (data.demo_seed, 0),
        "data.demo_frames": (data.demo_frames, 1),
        "data.demo_train_per_photo": (data.demo_train_per_photo, 1),
        "data.demo_val_per_photo": (data.demo_val_per_photo, 1),
        "schedule.batch": (schedule.batch, 1),
        "schedule.patch": (schedule.patch, 4),
        "schedule.frames": (schedule.frames, 1),
        "schedule.log_every": (schedule.log_every, 1),
        "schedule.checkpoint_every": (schedule.checkpoint_every, 1),
        "schedule.pretrain.steps": (schedule.pretrain.steps, 1),
        "schedule.pretrain.flow_frozen_steps": (schedule.pretrain.flow_frozen_steps, 0),
        "schedule.scratch_steps": (schedule.scratch_steps, 0),
        "schedule.align.steps": (schedule.align.steps, 1),
        "schedule.sparsify.growth_interval": (schedule.sparsify.growth_interval, 1),
        "schedule.sparsify.hold_steps": (schedule.sparsify.hold_steps, 0),
        "schedule.finetune.steps": (schedule.finetune.steps, 1),
        "evaluate.latency_frames": (evaluate.latency_frames, 1),
        "evaluate.latency_repeats": (evaluate.latency_repeats, 1),
        "evaluate.crops": (evaluate.crops, 0),
        "evaluate.temporal_pairs": (evaluate.temporal_pairs, 0),
        "trainer.devices": (config.trainer.devices, 1),
        "trainer.threads": (config.trainer.threads, 0),
        "trainer.workers": (config.trainer.workers, 0),
        "launcher.jobs": (config.launcher.jobs, 1),
        "launcher.threads": (config.launcher.threads, 0),
    }
    for name, (value, least) in at_least.items():
        if value < least:
            raise UserError(f"{name} must be at least {least}; got {value}")
    for name, seed in (("seed", config.seed), ("pretrain_seed", config.pretrain_seed)):
        if seed >= 2**63:
            raise UserError(f"{name} must be less than 2^63; got {seed}")
    positive = {
        "schedule.pretrain.lr": schedule.pretrain.lr,
        "schedule.pretrain.flow_lr_share": schedule.pretrain.flow_lr_share,
        "schedule.align.lr": schedule.align.lr,
        "schedule.align.gate_lr": schedule.align.gate_lr,
        "schedule.align.weight": schedule.align.weight,
        "schedule.sparsify.lr": schedule.sparsify.lr,
        "schedule.sparsify.gate_lr": schedule.sparsify.gate_lr,
        "store.lease_seconds": config.store.lease_seconds,
        "schedule.sparsify.growth": schedule.sparsify.growth,
        "schedule.sparsify.maximum": schedule.sparsify.maximum,
        "schedule.finetune.lr": schedule.finetune.lr,
    }
    for name, number in positive.items():
        if not (number > 0 and math.isfinite(number)):
            raise UserError(f"{name} must be a finite number > 0; got {number:g}")
    if len(evaluate.latency_size) != 2 or min(evaluate.latency_size) < 8:
        raise UserError(f"evaluate.latency_size must be [height, width], each >= 8; got {evaluate.latency_size}")


def _check_target(config: Config) -> None:
    if config.round_to == "auto" and config.scope != "global":
        raise UserError(f"round_to=auto chooses every layer's count itself; use scope=global instead of {config.scope}")
    if config.round_to == "auto" and config.parts_cut:
        raise UserError(f"round_to=auto cuts every part; parts={list(config.parts)} needs round_to=1, 8 or 16")
    if config.target == "latency" and config.round_to != "auto":
        raise UserError("target=latency needs times of this device: add round_to=auto")
    if not (config.target_ms >= 0 and math.isfinite(config.target_ms)):
        raise UserError(f"target_ms must be a finite number > 0, milliseconds per frame; got {config.target_ms:g}")
    if config.target_ms and config.target != "latency":
        raise UserError(f"target_ms is given, but target={config.target} does not read it; add target=latency")


def _check_method(config: Config) -> None:
    """The method's own conditions, in the words in which a user sets them."""
    method = METHODS[config.method.name]
    for knob, allowed in method.requires.items():
        value = getattr(config, knob)
        if value not in allowed:
            raise UserError(
                f"{knob}={value} does not go with method={method.name}, which needs {knob}="
                f"{' or '.join(map(str, allowed))}; take {knob} out of the command, or choose another method"
            )
    if method.start != "cut" and config.method.sparsify:
        raise UserError(
            f"method.sparsify=true does not go with method={method.name}, which cuts no units of the dense network;"
            " take it out of the command"
        )
    if config.trainer.devices > 1 and (method.normalised or method.start == "masked"):
        raise UserError(f"method={method.name} trains on one device; got trainer.devices={config.trainer.devices}")
    if method.start == "masked" and (config.tf_weight or config.method.output_weight):
        raise UserError(f"method={method.name} is fine-tuned without a teacher; use tf_weight=0 method.output_weight=0")


def _check_rounds(config: Config) -> None:
    if config.rounds == 1:
        return
    method = METHODS[config.method.name]
    reasons = {
        f"method={method.name}, which ranks no units": method.plan != "ranked",
        "method.sparsify=false: nothing is trained between rounds": not config.method.sparsify,
        "scope=per_layer, which fixes every layer's share": config.scope == "per_layer",
        "target=latency, which is solved for once": config.target == "latency",
        "order=max: what a round drove to zero ranks last in the next": config.ranking_order == "max",
        "ratio=0": config.ratio == 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f"rounds={config.rounds} does not go with {reason}; use rounds=1")


def _check_task(config: Config) -> None:
    task, factors, default = config.task, config.model.upscale_factors, TaskConfig()
    for reader, options in TASKS.items():
        for option in options:
            value = getattr(task, option)
            if reader != task.name and value != getattr(default, option):
                raise UserError(
                    f"task.{option}={value:g} is given, but task={task.name} does not read it; add task={reader}"
                )
    if not 0 < task.sigma <= 255:
        raise UserError(
            f"task.sigma must be in (0, 255], the noise's standard deviation in 8-bit steps; got {task.sigma:g}"
        )
    if task.blur_frames < 3 or task.blur_frames % 2 == 0:
        raise UserError(f"task.blur_frames must be an odd number >= 3, frames averaged; got {task.blur_frames}")
    if task.name == "sr":
        if factors == []:
            raise UserError(
                "model.upscale_factors=[] is scale 1, at which task=sr has nothing to do; give factors such as [2,2],"
                " or use task=denoise or task=deblur"
            )
        return
    if factors:
        raise UserError(
            f"task={task.name} works at scale 1, but model.upscale_factors={factors} is {math.prod(factors)};"
            " use model.upscale_factors=[], or task=sr"
        )
    for knob, value, only, reason in (
        ("data.degradation", config.data.degradation, DataConfig().degradation, "makes its input from frames as large"),
        ("data.low", config.data.low, DataConfig().low, "reads no low-resolution frames"),
        ("evaluate.protocol", config.evaluate.protocol, OWN, "is in no published table of super-resolution"),
    ):
        if value != only:
            raise UserError(f"{knob}={value} does not go with task={task.name}, which {reason}; use {knob}={only}")


def _check_pairs(config: Config) -> None:
    _check_task(config)
    _check_target(config)
    _check_method(config)
    _check_rounds(config)
    config.comparison  # noqa: B018  raises where the data contradict the protocol
    if config.scope == "per_layer":
        if not config.ratios:
            raise UserError("scope=per_layer needs ratios=FILE or ratios={LAYER: RATIO, ...}; got none")
        if config.parts_cut:
            raise UserError(
                f"scope=per_layer names the layers itself; take parts={list(config.parts)} out of the command"
            )
        if config.target != "units":
            raise UserError(
                f"scope=per_layer fixes every layer's share, so target={config.target} cannot be met; use target=units"
            )
    elif config.ratios is not None and config.ratios != "" and config.ratios != {}:
        raise UserError(f"ratios are given, but scope={config.scope} does not read them; add scope=per_layer")
    _check_data(config)
    scale = math.prod(config.model.upscale_factors or [])
    if config.data.shrinking in BLUR and scale != BLUR_SCALE and config.model.upscale_factors is not None:
        raise UserError(
            f"data.degradation={config.data.shrinking} is defined for a scale of {BLUR_SCALE}, but"
            f" model.upscale_factors={config.model.upscale_factors} is {scale}; use data.degradation=bicubic"
        )
    if config.data.name == "demo" and config.data.demo_frames < config.schedule.frames:
        raise UserError(
            f"schedule.frames={config.schedule.frames} is longer than the demo clips;"
            f" data.demo_frames is {config.data.demo_frames}"
        )
    if 0 < config.data.max_frames < config.schedule.frames:
        raise UserError(
            f"data.max_frames={config.data.max_frames} is less than schedule.frames={config.schedule.frames},"
            " the frames that training takes at a time"
        )
    _check_launcher(config.launcher)
    if config.schedule.batch % config.trainer.devices:
        raise UserError(
            f"schedule.batch={config.schedule.batch} cannot be split over trainer.devices={config.trainer.devices};"
            " it must be a multiple of it"
        )
    if config.pretrained and config.pretrained_flow:
        raise UserError(
            "pretrained and pretrained_flow are both given, but a pretrained network has a flow net; give one of them"
        )
    for name in ("pretrained", "pretrained_flow"):
        _check_weights_file(name, getattr(config, name))


def _check_data(config: Config) -> None:
    data = config.data
    for name, readers in DATA_READERS.items():
        if getattr(data, name) and data.name not in readers:
            raise UserError(
                f"data.{name}={getattr(data, name)} is given, but data={data.name} does not read it;"
                f" add data={' or '.join(readers) if len(readers) < 4 else readers[0]}"
            )
    if data.low != "bi" and data.name not in PUBLISHED_SETS:
        raise UserError(
            f"data.low={data.low} is given, but data={data.name} has none on disk; use data.degradation={BLUR[0]}"
        )
    if bool(data.train_set) != bool(data.train_path):
        raise UserError(
            "data.train_set and data.train_path belong together: a set to train on, and its folder;"
            f" got {data.train_set!r} and {data.train_path!r}"
        )


def _check_weights_file(name: str, file: str) -> None:
    path = Path(file).expanduser()
    if file and not (path.is_file() and path.suffix in WEIGHT_SUFFIXES):
        lack = f"{path.suffix!r} is another kind" if path.is_file() else "there is none"
        raise UserError(f"{name} must be a file of weights ({', '.join(WEIGHT_SUFFIXES)}); got {file!r}: {lack}")


def _check_launcher(launcher: LauncherConfig) -> None:
    if launcher.address and launcher.name not in ("dask", "ray"):
        raise UserError(
            f"launcher.address is given, but launcher={launcher.name} does not read it; use launcher=dask or ray"
        )
    batch = launcher.name in BATCH_SYSTEMS
    if launcher.options and not batch:
        raise UserError(
            f"launcher.options are given, but launcher={launcher.name} does not read them; use launcher=slurm, pbs, sge"
        )
    if batch and not {"cores", "memory"} <= set(launcher.options or {}):
        raise UserError(f"launcher={launcher.name} needs launcher.options.cores and launcher.options.memory of one job")


def _load_ratios(ratios: Any) -> dict[str, float | int] | None:
    if ratios is None or ratios == "" or ratios == {}:
        return None
    if isinstance(ratios, str):
        path = Path(ratios).expanduser()
        try:
            text = path.read_text()
            ratios = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"ratios={path}: cannot read this file ({error})".replace("\n", " ")) from error
    if not isinstance(ratios, dict) or not ratios:
        raise UserError(f"ratios must map layers to ratios; got {type(ratios).__name__}")
    return {str(name): value for name, value in ratios.items()}
