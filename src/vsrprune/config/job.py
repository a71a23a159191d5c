"""One job: the paper's knobs, and the groups that hold everything else.

Nothing below the stages sees these classes: functions take plain arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vsrprune.channels.layout import RULES
from vsrprune.config.data import DataConfig
from vsrprune.config.evaluate import EvaluateConfig
from vsrprune.config.lengths import Lengths, lengths
from vsrprune.config.machine import LauncherConfig, SweepConfig, TrackingConfig, TrainerConfig
from vsrprune.config.method import MethodConfig
from vsrprune.config.model import ModelConfig
from vsrprune.config.quantise import NONE, QuantiseConfig
from vsrprune.config.schedule import ScheduleConfig
from vsrprune.config.store import StoreConfig
from vsrprune.config.task import TaskConfig
from vsrprune.errors import UserError, one_of
from vsrprune.knobs import Limits, knob
from vsrprune.results.measured import AUTO
from vsrprune.results.protocols import Comparison, comparison
from vsrprune.selection.asked import NORMALISE, ORDERS, RANKS, SCOPES, TARGETS, Asked
from vsrprune.selection.budget import REALTIME
from vsrprune.selection.controls import UNITS
from vsrprune.selection.scores import NAMES, RANDOM
from vsrprune.store.atomic import read_json, read_regular

RSC = RULES[0]
LARGEST_SEED = 2**63 - 1
SEED: Limits = {"at_least": 0, "at_most": LARGEST_SEED}
REPLICATE_STEP = 1_000_000  # more than anybody counts seeds up to: swept together, no two pairs are the same job
# What differs between machines or names places: no part of what a result depends on.
NO_KNOBS_OF_RESULTS = (
    "store_dir",
    "runs_dir",
    "dry_run",
    "print_config",
    "doctor",
    "launcher",
    "tracking",
    "sweep",
    "store",
)
TIMED_TARGETS = ("latency", REALTIME)


@dataclass
class Config:
    """One job. The flat knobs are the paper's; the groups hold everything else."""

    rsc: bool = knob(
        True,
        "Residual Sparsity Connection: every block of the residual stream chooses its channels freely, and the stream"
        " keeps all of them.",
    )
    residual: str = knob(
        "aligned",
        "The rule without RSC: `aligned` shares one index set along a branch's skip connections, `inner` prunes only"
        " conv1's filters.",
        choices=RULES[1:],
    )
    ratio: float = knob(
        0.5, "The pruning ratio: the share that is removed.", at_least=0, below=1, words="the share that is removed"
    )
    target: str = knob(
        "units",
        "What ratio is a share of: units (filters, inputs, pixel-shuffle groups), MACs, parameters, or milliseconds per"
        " frame (latency, with round_to=auto). realtime: the highest score within the time of a frame (fps), or how"
        " near one comes; it takes round_to=auto, and score=taylor where none is given.",
        choices=(*TARGETS, *TIMED_TARGETS),
    )
    target_ms: float = knob(
        0.0,
        "With target=latency and realtime: milliseconds per frame instead of a ratio, flow net included; 0: by ratio.",
        at_least=0,
        spelled="a finite number > 0, milliseconds per frame",
    )
    scope: str = knob(
        "global",
        "One ranking over all layers, the same ratio in every layer (local), in every kind of unit or part of the"
        " network, each ranked by itself (kind, part), or given ratios (per_layer).",
        choices=SCOPES,
    )
    ratios: Any = knob(
        None,
        "For scope=per_layer: a YAML or JSON file, or {LAYER: RATIO or KEPT COUNT, ...}; layers left out stay whole.",
        spelled="a mapping of layers to ratios, or a file of one",
    )
    score: str = knob(
        "l1",
        "Importance of a unit, of its weights: mean |gamma * w| (l1), the same of the first of the layers that share a"
        " channel (l1_first), root mean square (l2), |gamma| (gate), distance to the layer's other units (fpgm), share"
        " of what is not smaller (lamp); of training batches: what the loss changes by without it (taylor), the squares"
        " of that (fisher), mean |activation| (activation); a seeded control (random); or a function of your own.",
        spelled=f"one of {', '.join(NAMES)}, or FILE.py:FUNCTION",
    )
    score_batches: int = knob(
        16,
        "Training batches that taylor, fisher, activation and a score of your own are computed on; 0: your own reads"
        " none.",
        at_least=0,
        at_most=4096,
    )
    normalise: str = knob(
        "none",
        "What scores are divided by before layers are compared: the mean of their layer or of their kind of unit, or"
        " the sum of the scores of the layer that are not smaller (lamp).",
        choices=NORMALISE,
    )
    rank: str = knob(
        "score",
        "What is compared between layers: the score, or the score per MAC or parameter that cutting a unit frees.",
        choices=RANKS,
    )
    order: str = knob(
        "min", "Cut the least important (min, the method) or the most important (max, the ablation).", choices=ORDERS
    )
    tf_weight: float = knob(
        0.003,
        "The weight of the Temporal Finetuning loss, which aligns the pruned network's hidden states with the"
        " teacher's, in units of their mean magnitude; 0 switches it off.",
        at_least=0,
    )
    min_kept: int = knob(1, "Channels that stay in every layer.", at_least=1)
    parts: list[str] = knob(
        [], "Parts of the network that may be cut, such as [backward,upsampler]; none named: all of them."
    )
    round_to: int | str = knob(
        1,
        "Kept counts are multiples of this, at the MACs of the unrounded plan; auto: those that keep the"
        " highest sum of scores (taylor, fisher, your own) for their time on this device, by a table of timed"
        " convolutions.",
        at_least=1,
        choices=("auto",),
        spelled="auto or a whole number >= 1, such as 8 or 16",
    )
    units: str = knob(
        "ranked",
        "Which units of a layer go: the least important ones (ranked), or, as a control, as many drawn by seed"
        " (random).",
        choices=UNITS,
    )
    rounds: int = knob(
        1, "Rank, and drive to zero, in so many rounds; each adds an equal part of ratio.", at_least=1, at_most=100
    )
    replicate: int = knob(
        0,
        "Every replicate has a dense network, a plan and an order of the data of its own: what intervals and tests are"
        " over. It shifts seed and pretrain_seed.",
        at_least=0,
        at_most=10**6,
    )
    seed: int = knob(0, "The seed of sparsify, finetune and the order of the data.", **SEED)
    pretrain_seed: int = knob(0, "The seed of the dense network.", **SEED)
    until: str = knob(
        "evaluate",
        "The last stage that runs.",
        choices=("pretrain", "score", "select", "sparsify", "prune", "finetune", "evaluate"),
    )
    dry_run: bool = knob(False, "Print the stages of every job, which exist, and what the others take; run nothing.")
    print_config: bool = knob(False, "Print all knobs as a tree, those that are not the default marked, and go on.")
    doctor: bool = knob(
        False,
        "Look at every frame of the data set instead of training: damage, mismatches, degradation, leaks.",
    )
    pretrained: str = knob(
        "",
        "A dense network (.safetensors, .pth, .pt, .ckpt, .pth.tar) instead of pretraining: one's own, BasicSR's,"
        " mmagic's, or of SSL's authors (whose gates are read too; add model.slope=0). % in its name stands for the"
        " number of the replicate, which then has a dense network of its own.",
    )
    pretrained_flow: str = knob("", "A SPyNet (the same kinds of file) that pretraining starts from.")
    store_dir: str = knob("store", "The folder of finished stages, which jobs share; or s3://BUCKET/PREFIX, gs://...")
    runs_dir: str = knob("runs", "The folder of results: one folder per job.")
    model: ModelConfig = field(default_factory=ModelConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    quantise: QuantiseConfig = field(default_factory=QuantiseConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    @property
    def rule(self) -> str:
        """The residual rule: rsc, or what `residual` names without it."""
        return RSC if self.rsc else self.residual

    @property
    def dense_seed(self) -> int:
        """The seed that the dense network is trained with: that of `pretrain_seed` and `replicate` together."""
        return _shifted(self.pretrain_seed, self.replicate)

    @property
    def pruning_seed(self) -> int:
        """The seed of all that follows the dense network: that of `seed` and `replicate` together."""
        return _shifted(self.seed, self.replicate)

    @property
    def parts_cut(self) -> list[str] | None:
        """The parts of the network that may be cut; None for all."""
        return list(self.parts) or None

    def in_round(self, cut_round: int) -> Config:
        """The same with what is to be cut by the end of a round, 1 to `rounds`: equal steps towards `ratio`."""
        return replace(self, ratio=self.ratio * (cut_round / self.rounds))

    @property
    def ranking_order(self) -> str:
        """The order that ranks; with a random score, which has none, always `min`."""
        return "min" if self.score == RANDOM else self.order

    @property
    def lengths(self) -> Lengths:
        """How many steps the trainings after pretraining have."""
        return lengths(self.schedule, self.method, self.rounds)

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
            normalise=self.normalise,
            rank=self.rank,
        )

    @property
    def comparison(self) -> Comparison:
        """How outputs are compared with the truth: what evaluate.protocol and data say together."""
        return comparison(self.evaluate.protocol, self.data.channel, self.data.crop)

    def knobs(self) -> dict[str, Any]:
        """All values, nested; without what differs between machines, and with what the protocol decides."""
        return _knobs_of_results(self)


def pretrained_file(config: Config) -> str:
    """The file of `pretrained`, with the replicate's number for every %; empty where none is named."""
    return config.pretrained.replace("%", str(config.replicate))


def _knobs_of_results(config: Config) -> dict[str, Any]:
    values = asdict(config)
    # Only the options that the task reads: those of other tasks change nothing.
    values["task"] = {"name": config.task.name, **config.task.options}
    values["model"] = {"name": config.model.name, **config.model.identity}
    values["data"] |= {"channel": config.comparison.channel, "crop": config.comparison.crop}
    for name in NO_KNOBS_OF_RESULTS:
        del values[name]
    if config.quantise.name == NONE:  # results without it are those of before it came
        del values["quantise"]
    if config.evaluate.engine == AUTO:
        del values["evaluate"]["engine"]
    # A cache changes where frames are read from, and not what they are.
    for name in ("cache", "cache_dir"):
        del values["data"][name]
    return values


def _shifted(seed: int, replicate: int) -> int:
    """Replicate 0 is the seed itself; what is beyond the largest seed counts on from 0."""
    return (seed + REPLICATE_STEP * replicate) % (LARGEST_SEED + 1)


def completed(config: Config, parts: Sequence[str]) -> Config:
    """The same with everything that it names filled in: `ratios` read from its file, `parts` in the network's order.

    parts: those that the network has; all of them named is none named. Raises UserError for a part that the network
    does not have, and for a file of ratios that cannot be used.
    """
    for part in config.parts:
        one_of("parts", part, parts)
    named = [part for part in parts if part in config.parts]
    # All parts named means the same as none named, and must give the same keys.
    return replace(config, ratios=load_ratios(config.ratios), parts=[] if len(named) == len(parts) else named)


def load_ratios(ratios: Any) -> dict[str, float | int] | None:
    """Ratios by layer, from a mapping or a file of one; None where none are given. Raises UserError."""
    if ratios is None or ratios == "" or ratios == {}:
        return None
    if isinstance(ratios, str):
        path = Path(ratios).expanduser()
        try:
            ratios = read_json(path) if path.suffix == ".json" else yaml.safe_load(read_regular(path))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(f"ratios={path}: cannot read this file ({error})".replace("\n", " ")) from error
    if not isinstance(ratios, dict) or not ratios:
        raise UserError(f"ratios must map layers to ratios; got {type(ratios).__name__}")
    return {str(name): value for name, value in ratios.items()}
