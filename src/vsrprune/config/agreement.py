"""Rules between knobs: values that are each allowed, and contradict each other. Every check raises or returns.

`validate` needs nothing but the configuration. When planning knows the devices, it calls `check_trainer` again and
`check_batch`; `check_network` and `check_scale` when it has described the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vsrprune.config.data import DATA_READERS, PUBLISHED_SETS, DataConfig
from vsrprune.config.job import TIMED_TARGETS, Config, pretrained_file
from vsrprune.config.machine import TrackingConfig, TrainerConfig, check_launcher
from vsrprune.config.model import arguments_of
from vsrprune.config.quantise import check_quantised
from vsrprune.config.schedule import STEPS
from vsrprune.config.store import check_store
from vsrprune.config.task import SUPER_RESOLUTION, TASKS, TaskConfig
from vsrprune.config.truth import check_truth
from vsrprune.errors import UserError
from vsrprune.knobs import check_knobs
from vsrprune.methods.table import METHODS
from vsrprune.results.protocols import BLUR, OWN, comparison
from vsrprune.selection.budget import REALTIME
from vsrprune.selection.scores import ADDITIVE, NAMES, OF_BATCHES, adds_up, is_own

BLUR_SCALE = 4  # the only one that published numbers with blur have
READS_UNITS = ("ranked", "whole")  # plans that rank units, or cut none whatever is said of them
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".pth.tar")


def validate(config: Config) -> None:
    """Raise UserError for the first value that is not allowed, and for knobs that contradict each other."""
    if config.until == "reference":
        raise UserError(
            "until=reference stops nowhere: bicubic, or a trained network, is compared with a test set by"
            " python src/evaluate.py --data NAME --path FOLDER, which trains nothing"
        )
    # First every value by itself: the rules below compare values, and rely on their types.
    check_knobs(config)
    _check_model(config)
    _check_parts(config)
    _check_task(config)
    _check_method(config)  # first what the method is defined for: other rules advise within it
    _check_target(config)
    _check_teacher(config)
    _check_score(config)
    _check_rounds(config)
    _check_budget(config)
    # Called for what it refuses; its result is not needed here.
    comparison(config.evaluate.protocol, config.data.channel, config.data.crop)
    _check_scope(config)
    _check_data(config)
    check_truth(config)
    _check_lengths(config)
    check_trainer(config.trainer)
    check_launcher(config.launcher)
    check_store(config.store, config.store_dir)
    _check_trackers(config.tracking)
    _check_weights(config)


def check_scale(config: Config, scale: int) -> None:
    """Raise UserError where the task or the degradation does not go with the network's scale."""
    # One's own network has its scale in its code, and no factors that an error could name.
    factors = list(getattr(config.model.arguments, "upscale_factors", ()))
    network = f"model.upscale_factors={factors}" if factors or scale == 1 else f"model={config.model.name}"
    if config.task.name == SUPER_RESOLUTION and scale == 1:
        raise UserError(
            f"{network} is scale 1, at which task=sr has nothing to do; give factors such as [2,2],"
            " or use task=denoise or task=deblur"
        )
    if config.task.name != SUPER_RESOLUTION and scale != 1:
        raise UserError(
            f"task={config.task.name} works at scale 1, but {network} is {scale};"
            f" use {'model.upscale_factors=[]' if factors else 'a network of scale 1'}, or task=sr"
        )
    if config.data.shrinking in BLUR and scale != BLUR_SCALE:
        raise UserError(
            f"data.degradation={config.data.shrinking} is defined for a scale of {BLUR_SCALE}, but"
            f" {network} is {scale}; use data.degradation=bicubic"
        )


def check_network(config: Config, arguments: Any) -> None:
    """Raise UserError for knobs for which the network, or the method on it, has nothing; `config` is completed."""
    name = config.model.name
    if config.tf_weight and not arguments.branches:
        raise UserError(
            f"tf_weight={config.tf_weight:g} holds hidden states to the dense network's, and model={name} has none;"
            " use tf_weight=0"
        )
    truncate = config.schedule.finetune.truncate
    if truncate and not arguments.truncates:
        lack = "does not hand them on by self.handed_on()" if arguments.branches else "has none"
        raise UserError(
            f"schedule.finetune.truncate={truncate} ends the gradients of hidden states, and model={name} {lack}; use"
            " schedule.finetune.truncate=0"
        )
    if config.pretrained_flow and not arguments.has_flow:
        raise UserError(f"pretrained_flow={config.pretrained_flow} is given, but model={name} has no flow net")
    check_quantised(config.quantise, name, arguments)
    method = METHODS[config.method.name]
    if arguments.prunes_flow and method.start == "scratch":
        raise UserError(
            f"model.flow_pruned=true does not go with method={method.name}: a network from scratch starts from the flow"
            " net that was trained whole; use model.flow_pruned=false"
        )
    if config.parts and method.plan not in READS_UNITS:
        raise UserError(
            f"parts={config.parts} are given, but method={method.name} ranks no units and does not read them; take"
            " parts out of the command"
        )


def _check_model(config: Config) -> None:
    network, arguments = config.model.network, config.model.arguments
    if type(arguments) is not arguments_of(network):
        raise UserError(
            f"model.network={network} takes {arguments_of(network).__name__}; config.model.arguments are"
            f" {type(arguments).__name__}"
        )


def _check_trackers(tracking: TrackingConfig) -> None:
    if len(set(tracking.to)) < len(tracking.to):
        raise UserError(f"tracking.to must name each tracker once; got {list(tracking.to)}")


def _check_parts(config: Config) -> None:
    if len(set(config.parts)) < len(config.parts):
        raise UserError(f"parts must name each part once, or none for all; got {list(config.parts)}")


def _check_target(config: Config) -> None:
    if config.round_to == "auto" and config.scope != "global":
        raise UserError(f"round_to=auto chooses every layer's count itself; use scope=global instead of {config.scope}")
    if config.round_to == "auto" and config.parts_cut:
        raise UserError(f"round_to=auto cuts every part; parts={list(config.parts)} needs round_to=1, 8 or 16")
    # The dense control meets any target by cutting nothing, in a sweep beside methods that meet it by cutting.
    if config.target in TIMED_TARGETS and config.round_to != "auto" and METHODS[config.method.name].plan != "whole":
        raise UserError(f"target={config.target} needs times of this device: add round_to=auto")
    if config.target_ms and config.target not in TIMED_TARGETS:
        raise UserError(f"target_ms is given, but target={config.target} does not read it; add target=latency")
    if config.target == REALTIME and not config.target_ms:
        raise UserError("target=realtime needs the frames per second that are to be reached: add fps=25, say")


def _check_method(config: Config) -> None:
    """The method's own conditions, in the words in which a user sets them."""
    method = METHODS[config.method.name]
    # Refused and not set silently: a result would carry another value than the command that asked for it.
    for knob, allowed in method.requires.items():
        value = getattr(config, knob)
        if value not in allowed:
            raise UserError(
                f"{knob}={value} does not go with method={method.name}, which needs {knob}="
                f"{' or '.join(map(str, allowed))}; take {knob} out of the command, or choose another method"
            )
    for knob in ("sparsify", "align"):
        if method.plan != "ranked" and getattr(config.method, knob):
            raise UserError(
                f"method.{knob}=true does not go with method={method.name}, which cuts no units of the dense network;"
                " take it out of the command"
            )
    if config.units == "random" and method.plan not in READS_UNITS:
        raise UserError(
            f"units=random draws the units that are cut, and method={method.name} ranks none; use units=ranked"
        )
    if config.method.normalised and config.method.penalty == "filters":
        raise UserError(
            "method.normalised=true holds the norm of filters, so that method.penalty=filters cannot shrink them; use"
            " method.penalty=gates"
        )
    one_device = "method.normalised=true" if config.method.normalised else f"method={method.name}"
    if config.trainer.devices > 1 and (config.method.normalised or method.start == "masked"):
        raise UserError(f"{one_device} trains on one device; got trainer.devices={config.trainer.devices}")
    if config.method.align and config.target in TIMED_TARGETS:
        raise UserError(
            "method.align=true has to know before any score how many channels layers keep, and"
            f" target={config.target} finds it out last; use target=macs"
        )
    if method.start == "masked" and (config.tf_weight or config.method.output_weight):
        raise UserError(f"method={method.name} is fine-tuned without a teacher; use tf_weight=0 method.output_weight=0")


def _check_teacher(config: Config) -> None:
    if config.method.sparsify:
        return
    # Only a method that ranks units of the dense network can be told to drive them to zero first.
    can_sparsify = METHODS[config.method.name].plan == "ranked"
    lacks = "method.sparsify=false" if can_sparsify else f"method={config.method.name}"
    remedy = ", or method.sparsify=true" if can_sparsify else ", or choose another method"
    if config.method.teacher == "sparsified":
        raise UserError(
            f"method.teacher=sparsified is the network that sparsify leaves, and {lacks} leaves none; use"
            f" method.teacher=dense{remedy}"
        )
    if config.method.tf_in_sparsify:
        raise UserError(
            f"method.tf_in_sparsify=true adds a loss to sparsify, and {lacks} runs no such stage; take it out of the"
            f" command{remedy}"
        )


def _check_score(config: Config) -> None:
    if config.score.endswith(".py"):
        raise UserError(f"score={config.score} names no function of the file; use score={config.score}:FUNCTION")
    if config.score not in NAMES and not is_own(config.score):
        raise UserError(f"score must be one of {', '.join(NAMES)}, or FILE.py:FUNCTION; got {config.score!r}")
    if config.score in OF_BATCHES and not config.score_batches:
        raise UserError(f"score={config.score} is computed on training batches; score_batches must be at least 1")
    # Where nothing is cut, nothing is added up: the dense control, and a search, which has operations timed so and
    # chooses counts itself.
    cuts = METHODS[config.method.name].plan != "whole" and (config.ratio > 0 or config.target_ms > 0)
    if config.round_to == "auto" and cuts and not adds_up(config.score):
        # Milliseconds are met by timed counts alone.
        remedy = "" if config.target in TIMED_TARGETS else ", or round_to=8"
        raise UserError(
            f"score={config.score} means nothing when it is added up over layers, as round_to=auto does; use"
            f" score={' or '.join(ADDITIVE)}{remedy}"
        )


def _check_rounds(config: Config) -> None:
    method = METHODS[config.method.name]
    if config.rounds == 1 or method.plan == "whole":
        return
    reasons = {
        f"method={method.name}, which ranks no units": method.plan != "ranked",
        "method.sparsify=false: nothing is trained between rounds": not config.method.sparsify,
        "scope=per_layer, which fixes every layer's share": config.scope == "per_layer",
        f"target={config.target}, which is solved for once": config.target in TIMED_TARGETS,
        "order=max: what a round drove to zero ranks last in the next": config.ranking_order == "max",
        "ratio=0": config.ratio == 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f"rounds={config.rounds} does not go with {reason}; use rounds=1")


def _check_budget(config: Config) -> None:
    method, schedule, lengths = METHODS[config.method.name], config.schedule, config.lengths
    if not schedule.budget:
        return
    if method.start == "scratch":
        if schedule.scratch_steps:
            raise UserError(
                f"schedule.scratch_steps={schedule.scratch_steps} and schedule.budget={schedule.budget} both say how"
                f" long method={method.name} trains; give one of them"
            )
    elif lengths.finetune < 1:
        parts = {"align": lengths.align, "sparsify": lengths.sparsify}
        named = " and ".join(f"{name} takes {steps}" for name, steps in parts.items() if steps)
        rounds = f" in {config.rounds} rounds" if config.rounds > 1 and lengths.sparsify else ""
        raise UserError(
            f"schedule.budget={schedule.budget} leaves no step for fine-tuning: with method={method.name}, {named}"
            f"{rounds}; use at least schedule.budget={lengths.before + 1}, or a shorter schedule.align or"
            " schedule.sparsify"
        )


def _check_task(config: Config) -> None:
    task, default = config.task, TaskConfig()
    for reader, options in TASKS.items():
        for option in options:
            # A value that equals its default cannot be told from one that was not given, and does no harm.
            value = getattr(task, option)
            if reader != task.name and value != getattr(default, option):
                raise UserError(
                    f"task.{option}={value:g} is given, but task={task.name} does not read it; add task={reader}"
                )
    if task.name == SUPER_RESOLUTION:
        return
    for knob, value, only, reason in (
        ("data.degradation", config.data.degradation, DataConfig().degradation, "makes its input from frames as large"),
        ("data.low", config.data.low, DataConfig().low, "reads no low-resolution frames"),
        ("evaluate.protocol", config.evaluate.protocol, OWN, "is in no published table of super-resolution"),
    ):
        if value != only:
            raise UserError(f"{knob}={value} does not go with task={task.name}, which {reason}; use {knob}={only}")


def _check_scope(config: Config) -> None:
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


def _check_lengths(config: Config) -> None:
    schedule, data = config.schedule, config.data
    name = schedule.longest_knob
    if data.name == "demo" and data.demo_frames < schedule.longest:
        raise UserError(
            f"{name}={schedule.longest} is longer than the demo clips; data.demo_frames is {data.demo_frames}"
        )
    truncate = schedule.finetune.truncate
    if truncate > schedule.finetune_frames:
        raise UserError(
            f"schedule.finetune.truncate={truncate} is more than the {schedule.finetune_frames} frames that fine-tuning"
            " takes of a clip; use fewer, 0 for the whole clip, or more schedule.finetune.frames"
        )
    if 0 < data.max_frames < schedule.longest:
        raise UserError(
            f"data.max_frames={data.max_frames} is less than {name}={schedule.longest}, the frames that training takes"
            " at a time"
        )
    sparsify = schedule.sparsify
    # The penalty rises by `growth` once per interval, so that this many steps lead to its maximum: training would not
    # end before.
    if sparsify.maximum / sparsify.growth * sparsify.growth_interval > STEPS["at_most"]:
        raise UserError(
            f"schedule.sparsify.growth={sparsify.growth:g} reaches schedule.sparsify.maximum={sparsify.maximum:g} after"
            f" more than {STEPS['at_most']} steps; let it grow faster"
        )


def _check_weights(config: Config) -> None:
    if config.pretrained and config.pretrained_flow:
        raise UserError(
            "pretrained and pretrained_flow are both given, but a pretrained network has a flow net; give one of them"
        )
    _check_weights_file("pretrained", pretrained_file(config))
    _check_weights_file("pretrained_flow", config.pretrained_flow)


def _check_weights_file(name: str, file: str) -> None:
    # Only name and existence are checked: reading weights needs torch, which planning must not import.
    path = Path(file).expanduser()
    if file and not (path.is_file() and path.name.lower().endswith(WEIGHT_SUFFIXES)):
        lack = f"{path.suffix!r} is another kind" if path.is_file() else "there is none"
        raise UserError(f"{name} must be a file of weights ({', '.join(WEIGHT_SUFFIXES)}); got {file!r}: {lack}")


def check_trainer(trainer: TrainerConfig) -> None:
    """Raise UserError for a precision that the accelerator does not have; asked again when `auto` is settled."""
    if trainer.accelerator == "cpu" and trainer.precision == "16-mixed":
        raise UserError(
            "trainer.precision=16-mixed needs a CUDA device, and trainer.accelerator=cpu; use"
            " trainer.precision=bf16-mixed or 32-true, or trainer=gpu"
        )
    for name, value, hinders in (
        ("accelerator", trainer.accelerator, trainer.accelerator == "cpu"),
        ("devices", trainer.devices, trainer.devices > 1),
        ("checkpoint_frames", "true", trainer.checkpoint_frames),
    ):
        if trainer.graphs is True and hinders:
            raise UserError(f"trainer.graphs=true does not go with trainer.{name}={value}; use trainer.graphs=auto")


def check_batch(config: Config) -> None:
    """Raise UserError for a batch that the devices cannot share; asked when planning knows that there are so many."""
    batch, devices = config.schedule.batch, config.trainer.devices
    if batch % devices:
        raise UserError(
            f"schedule.batch={batch} cannot be split over trainer.devices={devices}; it must be a multiple of it"
        )
