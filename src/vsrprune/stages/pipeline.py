"""Run a job's missing stages: pretrain -> score -> select -> sparsify -> prune -> finetune -> evaluate.

In which of them methods differ, and how, says the job's `Method`.
"""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsrprune.channels.operations import TimeTable
from vsrprune.channels.plan import PrunePlan
from vsrprune.config.job import Config
from vsrprune.data.cache import cached_clips
from vsrprune.data.clips import Clip, ClipSet, check_clips
from vsrprune.data.corruption import corrupted
from vsrprune.data.demo import demo_clips
from vsrprune.data.reading import Reading, read_clips
from vsrprune.data.sets.layout import Found
from vsrprune.data.sources import check_crop
from vsrprune.errors import UserError
from vsrprune.host.failures import JobState
from vsrprune.host.machine import measuring, working
from vsrprune.host.progress import StageProgress
from vsrprune.host.tracking import Tracker
from vsrprune.jobs.planning import Job
from vsrprune.methods.method import Method
from vsrprune.methods.table import METHODS
from vsrprune.metrics.cost import NetworkCost, network_cost
from vsrprune.metrics.latency import compare_latency, fastest_milliseconds
from vsrprune.metrics.memory import peak_memory
from vsrprune.metrics.temporal import TruthMotion, truth_motion
from vsrprune.networks.basicvsr.frozen import PRECISIONS
from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.checkpoints import load_dense, load_flow
from vsrprune.networks.fast.device_operations import FORMATS, time_tables
from vsrprune.networks.fast.freezing import Compiled, Frozen, freeze
from vsrprune.networks.files import load_network, save_network
from vsrprune.networks.network import Network
from vsrprune.networks.table import build
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.masking import mask_smallest, zero_costs
from vsrprune.pruning.penalty import TARGETS
from vsrprune.pruning.reparametrisation import bake, hold_zeros, normalise_filters
from vsrprune.pruning.scoring import score_units
from vsrprune.pruning.surgery import compact, equivalence_error
from vsrprune.results.result import METRICS, Quality
from vsrprune.selection.frontier import timed_operations
from vsrprune.selection.timed import TimedSelection
from vsrprune.selection.units import Budget, budget, select
from vsrprune.selection.widths import narrow_plan
from vsrprune.stages.align import Align
from vsrprune.stages.evaluate import (
    CropPlace,
    Hidden,
    HiddenError,
    QualityMeter,
    bicubic,
    choose_crops,
    inputs_shown,
    place_json,
    save_crop,
    save_png,
    super_resolve,
)
from vsrprune.stages.finetune import Finetune
from vsrprune.stages.fit import Hardware, Sampling, fit
from vsrprune.stages.pretrain import Pretrain, TrainedFlow
from vsrprune.stages.scratch import Scratch
from vsrprune.stages.sparsify import Sparsify, cut_summary
from vsrprune.stages.teacher import Teacher
from vsrprune.stages.training import TrainingStage
from vsrprune.store.atomic import write_atomically, write_json
from vsrprune.store.store import Artifact, Store

COST_SIZE = (180, 320)  # low-resolution frame for which the literature counts MACs
EQUIVALENCE_TOLERANCE = 1e-10  # float64, relative to max |output|
EQUIVALENCE_SIZE = (37, 45)  # odd, and no multiple of anything the network divides by
EQUIVALENCE_FRAMES = (1, 2, 5)


def run_stages(job: Job, store: Store, tracker: Tracker, state: JobState, say: Callable[[str], None]) -> None:
    """Make every artifact of the job that the store does not have; `state` keeps on disk how far it is."""
    if job.config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=gpu needs a CUDA device, and this machine has none; use trainer=cpu")
    _Run(job, store, tracker, state, say).all()


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with so many threads; 0 leaves PyTorch's choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    yield
    torch.set_num_threads(before)


def job_clips(job: Job, say: Callable[[str], None]) -> ClipSet:
    """A job's training and held-out clips, checked; `say` is told what was done to them."""
    data, schedule, scale = job.config.data, job.config.schedule, job.arguments.scale
    if job.sources is None:
        clips = demo_clips(
            scale,
            data.demo_seed,
            data.demo_train_per_photo,
            data.demo_val_per_photo,
            data.demo_frames,
            data.degradation,
        )
    else:
        clips = _clips_on_disk(job, job.sources, say)
    clips = corrupted(clips, job.config.task.name, job.config.task.options)
    check_clips(clips.train, schedule.frames, schedule.patch)
    for clip in clips.val:
        height, width = clip.high_TCHW.shape[-2:]
        check_crop(f"the held-out clip {clip.name}", (height, width), job.config.comparison.crop)
    for note in clips.notes:
        say(f"  note: {note}")
    return clips


def _clips_on_disk(job: Job, sources: Found, say: Callable[[str], None]) -> ClipSet:
    data, schedule = job.config.data, job.config.schedule
    how = Reading(
        scale=job.arguments.scale,
        max_frames=data.max_frames,
        halve=data.halve,
        scene_cut=data.scene_cut,
        shortest=schedule.frames,
        skip_errors=data.on_error == "skip",
        degradation=data.shrinking,
    )
    if data.cache:
        folder = Path(data.cache_dir or Path(job.config.store_dir) / "cache").expanduser()
        clips = cached_clips(sources.train, sources.val, how, folder, say)
    else:
        clips = read_clips(sources.train, sources.val, how)
    for side, wanted, read in (("train", sources.train, clips.train), ("val", sources.val, clips.val)):
        if wanted and not read:
            raise UserError(f"data: no clip is left of the {len(wanted)} in data.{side}: {'; '.join(clips.notes)}")
    return replace(clips, notes=(*sources.notes, *clips.notes))


def job_device(job: Job) -> torch.device:
    """Where a job computes."""
    accelerator = job.config.trainer.accelerator
    gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu else "cpu")


class _Run:
    """One job under way: its artifacts so far, and what stages share (clips, device)."""

    def __init__(self, job: Job, store: Store, tracker: Tracker, state: JobState, say: Callable[[str], None]) -> None:
        self._job, self._store, self._tracker, self._state, self._say = job, store, tracker, state, say
        self._config: Config = job.config
        self._method: Method = METHODS[job.config.method.name]
        self._artifacts: dict[str, Artifact] = {}

    def all(self) -> None:
        """Each stage in turn; a published one is only opened."""
        makers: Mapping[str, Callable[[Path, Path], None]] = {
            "pretrain": self._pretrain,
            "reference": self._reference,
            "align": self._align,
            "score": self._score,
            "timing": self._time_operations,
            "select": self._select,
            "sparsify": self._sparsify,
            "prune": self._prune,
            "finetune": self._finetune,
            "evaluate": self._evaluate,
            "measure": self._measure,
        }
        target = self._config.target
        for stage in self._job.stages:
            self._stage = stage
            self._state.stage(stage.name)
            artifact = self._store.find(stage.stage, stage.key)
            if artifact is None:
                alone = stage.stage in ("timing", "measure") or (stage.stage == "select" and target == "latency")
                make = partial(self._alone if alone else self._beside_others, makers[stage.stage])
                artifact = self._store.produce(stage.stage, stage.key, stage.settings, make)
                self._say(f"  {stage.name:<10} done in {artifact.seconds:.1f} s")
            else:
                self._say(f"  {stage.name:<10} reused {stage.key}")
            self._artifacts[stage.stage] = artifact

    def _beside_others(self, make: Callable[[Path, Path], None], folder: Path, work: Path) -> None:
        """Make a stage beside other jobs of this machine, with this job's share of its threads."""
        config = self._config
        with working() as right, _threads(config.trainer.threads or config.launcher.threads):
            self._give_way = right.give_way
            make(folder, work)

    def _alone(self, make: Callable[[Path, Path], None], folder: Path, work: Path) -> None:
        """Make a stage that takes times, alone on this machine and with all its threads."""
        waits = "  waits until the other jobs of this machine pause"
        with measuring(lambda: self._say(waits)), _threads(self._config.trainer.threads):
            make(folder, work)

    @cached_property
    def _clips(self) -> ClipSet:
        return job_clips(self._job, self._say)

    @cached_property
    def _device(self) -> torch.device:
        return job_device(self._job)

    def _built(self) -> Network:
        """A new dense network."""
        return build(self._job.arguments)

    @property
    def _pretrained(self) -> Network:
        """The network of the file that takes the place of pretraining."""
        file = Path(self._config.pretrained).expanduser()
        return load_dense(file, self._job.arguments, self._note)

    def _network(self, stage: str) -> Network:
        return load_network(self._artifacts[stage].folder)

    @property
    def _plan(self) -> PrunePlan:
        return PrunePlan.from_json(self._artifacts["select"].json("selection.json")["plan"])

    def _fit(self, module: TrainingStage, seed: int, folder: Path, work: Path) -> None:
        """Train, and leave the network and its curves in `folder`."""
        schedule, trainer = self._config.schedule, self._config.trainer
        module.network.checkpoint_frames = trainer.checkpoint_frames
        self._state.stage(self._stage.name, module.steps)
        rows = fit(
            module,
            self._clips.train,
            Sampling(schedule.batch, schedule.patch, schedule.frames, seed, self._config.data.mirror),
            workdir=work,
            hardware=Hardware(trainer.accelerator, trainer.devices, trainer.precision, trainer.workers),
            log_every=schedule.log_every,
            checkpoint_every=schedule.checkpoint_every,
            on_row=self._on_row,
            between_steps=self._give_way,
        )
        bake(module.network)
        save_network(module.network, folder)
        _write_rows(folder, rows)

    def _on_row(self, row: dict[str, Any]) -> None:
        stage = self._stage.name
        self._state.step(stage, row["step"], row.get("loss_reconstruction"))
        self._tracker.row({**row, "stage": stage})

    def _pretrain(self, folder: Path, work: Path) -> None:
        config = self._config
        if config.pretrained:
            save_network(self._pretrained, folder)
            return
        torch.manual_seed(config.pretrain_seed)
        network, schedule = self._built(), config.schedule.pretrain
        if config.pretrained_flow:
            load_flow(Path(config.pretrained_flow).expanduser(), network, self._note)
        module = Pretrain(network, schedule.steps, schedule.lr, schedule.shape, self._trained_flow)
        self._fit(module, config.pretrain_seed, folder, work)

    @property
    def _trained_flow(self) -> TrainedFlow | None:
        """How a flow net from a file trains on."""
        schedule = self._config.schedule.pretrain
        flow = TrainedFlow(schedule.flow_frozen_steps, schedule.flow_lr_share)
        return flow if self._config.pretrained_flow else None

    def _note(self, text: str) -> None:
        self._say(f"  note: {text}")

    def _reference(self, folder: Path, work: Path) -> None:
        """The baseline (bicubic, or the input itself at scale 1) and the dense network, shared by every job on them."""
        dense = self._network("pretrain")
        scale = self._job.arguments.scale
        dense.to(self._device).eval()
        places = choose_crops(self._clips.val, scale, self._config.evaluate.crops)
        meters = {name: QualityMeter(self._config.comparison) for name in ("baseline", "dense")}
        for clip in self._clips.val:
            outputs = {"baseline": bicubic(clip, scale), "dense": self._super_resolve(dense, clip)[0]}
            motion = self._motion(clip)
            for name, frames_TCHW in outputs.items():
                meters[name].add(clip, frames_TCHW, motion)
            for place in (place for place in places if place.clip == clip.name):
                stem = folder / "crops" / place.clip
                save_png(clip.high_TCHW[place.frame], stem.with_name(f"{place.clip}_frame.png"))
                inputs = inputs_shown(clip, scale, outputs["baseline"])
                shown = {"truth": clip.high_TCHW, **inputs, "dense": outputs["dense"]}
                for name, frames_TCHW in shown.items():
                    save_crop(frames_TCHW, place, stem.with_name(f"{place.clip}_{name}.png"))
        write_json(
            folder / "reference.json",
            {
                **{name: asdict(meter.quality()) for name, meter in meters.items()},
                "cost": asdict(network_cost(dense, COST_SIZE)),
                "crops": [place_json(place) for place in places],
                "notes": list(self._clips.notes),
            },
        )

    def _super_resolve(self, network: Network, clip: Clip) -> tuple[Tensor, Hidden]:
        return super_resolve(network, clip, self._device, mirrored=self._config.comparison.centre)

    def _quality(self, network: Network) -> Quality:
        """Quality on the held-out clips, without temporal consistency."""
        network, meter = network.to(self._device).eval(), QualityMeter(self._config.comparison)
        for clip in self._clips.val:
            meter.add(clip, self._super_resolve(network, clip)[0])
        return meter.quality()

    def _motion(self, clip: Clip) -> TruthMotion | None:
        """The motion that outputs are compared with, if temporal consistency is asked for."""
        evaluate = self._config.evaluate
        return truth_motion(clip.high_TCHW, evaluate.temporal_pairs) if evaluate.temporal else None

    def _align(self, folder: Path, work: Path) -> None:
        schedule, layout, network = self._config.schedule.align, self._job.layout, self._network("pretrain")
        # scope=local: how many channels each layer keeps does not depend on the scores, which come later.
        kept = self._free_plan({group.name: np.zeros(group.size) for group in layout.groups}).kept_counts
        normalise_filters(network, layout)
        module = Align(
            network,
            layout,
            kept,
            steps=schedule.steps,
            lr=schedule.lr,
            gate_lr=schedule.gate_lr,
            weight=schedule.weight,
        )
        self._fit(module, self._config.seed, folder, work)
        write_json(folder / "agreement.json", module.monitors())

    def _uncut(self) -> Network:
        """The dense network as the last stage that trained it left it."""
        trained = next(stage for stage in ("sparsify", "align", "pretrain") if stage in self._artifacts)
        return self._network(trained)

    def _score(self, folder: Path, work: Path) -> None:
        network = self._uncut()
        if "sparsify" in self._artifacts:  # units of the round before: they score nothing, and stay cut
            zero_cut_gates(network, self._plan)
        scores = score_units(network, self._job.layout, self._config.score, self._config.seed)
        write_json(folder / "scores.json", {name: values.tolist() for name, values in scores.items()})

    def _select(self, folder: Path, work: Path) -> None:
        choose = {"ranked": self._ranked, "narrow": self._narrow, "whole": self._whole}
        plan, asked = choose[self._method.plan]()
        if self._config.target in ("macs", "params") and self._config.round_to != 1:
            asked.check(self._config.round_to)
        write_json(folder / "selection.json", {"plan": plan.to_json(), "budget": asked.to_json()})

    def _narrow(self) -> tuple[PrunePlan, Budget]:
        """Widths of a network that is trained from scratch."""
        config, layout = self._config, self._job.layout
        plan = narrow_plan(layout, rule=config.rule, ratio=config.ratio, target=config.target, min_kept=config.min_kept)
        return plan, budget(layout, plan, config.ratio, config.target)

    def _whole(self) -> tuple[PrunePlan, Budget]:
        """All channels, and what their weights cost once the smallest are zeros."""
        plan = PrunePlan.keep_all(self._config.rule, self._job.layout)
        return plan, self._masked(plan)[1]

    def _masked(self, plan: PrunePlan) -> tuple[Network, Budget]:
        network = compact(self._network("pretrain"), plan)
        return network, mask_smallest(network, self._job.layout, self._config.ratio, self._config.target)

    def _ranked(self) -> tuple[PrunePlan, Budget]:
        """The least important units cut."""
        layout, cut_round = self._job.layout, self._stage.cut_round
        config = self._config.in_round(cut_round or self._config.rounds)
        scores = {name: np.asarray(values) for name, values in self._artifacts["score"].json("scores.json").items()}
        ratio, target = config.ratio, config.target
        if target == "units" and config.scope == "global" and config.round_to != 1:
            # Rounding moves units between layers of different cost: what it keeps is the MACs of the unrounded plan.
            unrounded = self._free_plan(scores, ratio=ratio, round_to=1).kept_counts
            ratio, target = 1 - layout.macs_per_pixel(unrounded) / layout.macs_per_pixel(), "macs"
        if config.round_to == "auto":
            return self._timed_plan(scores, ratio, target)
        plan = self._free_plan(scores, ratio=ratio, target=target)
        by_layer = config.scope == "per_layer" or (config.parts_cut and config.scope == "local" and target == "units")
        return plan, budget(layout, plan, plan.units_cut / layout.units if by_layer else ratio, target)

    def _free_plan(self, scores: Mapping[str, Any], **changes: Any) -> PrunePlan:
        """What `select` cuts by the configuration, but for `changes`."""
        config = self._config
        options = {"ratio": config.ratio, "target": config.target, "round_to": config.round_to, **changes}
        return select(
            self._job.layout,
            scores,
            rule=config.rule,
            scope=config.scope,
            order=config.ranking_order,
            min_kept=config.min_kept,
            ratios=config.ratios,
            parts=config.parts_cut,
            **options,
        )

    def _time_operations(self, folder: Path, work: Path) -> None:
        """The table of `round_to=auto`: every operation that a plan may need, in every memory format."""
        height, width = self._config.evaluate.latency_size
        operations = timed_operations(self._job.layout, self._config.min_kept)
        timer = partial(fastest_milliseconds, device=self._device)
        with StageProgress("timing", len(operations) * len(FORMATS)) as progress:
            dtype = PRECISIONS[self._config.evaluate.precision]
            tables = time_tables(operations, (height, width), self._device, timer, progress.update, dtype)
        write_json(folder / "times.json", {name: table.to_json() for name, table in tables.items()})

    def _timed_plan(self, scores: dict[str, Any], ratio: float, target: str) -> tuple[PrunePlan, Budget]:
        config, layout = self._config, self._job.layout
        tables = self._artifacts["timing"].json("times.json")
        selection = TimedSelection(
            layout,
            scores,
            {name: TimeTable.from_json(rows) for name, rows in tables.items()},
            rule=config.rule,
            order=config.ranking_order,
            min_kept=config.min_kept,
        )
        if target != "latency":
            return selection.for_amount(target, ratio)
        dense_ms = self._plan_ms(PrunePlan.keep_all(config.rule, layout))
        return selection.for_latency(config.target_ms or dense_ms * (1 - ratio), dense_ms, self._plan_ms)

    def _plan_ms(self, plan: PrunePlan) -> float:
        """Measured milliseconds per frame of a plan's network, flow net included; weights do not matter for it."""
        evaluate = self._config.evaluate
        with self._timed_precision:
            frozen, _ = self._frozen(self._built().with_plan(plan))
            latency = compare_latency({"": frozen}, self._latency_clip, evaluate.latency_repeats)[""].ms
        self._say(f"  select     a plan with {plan.units_cut} units cut takes {latency:.1f} ms per frame")
        return latency

    @cached_property
    def _latency_clip(self) -> Tensor:
        height, width = self._config.evaluate.latency_size
        return torch.rand(1, self._config.evaluate.latency_frames, RGB, height, width, device=self._device)

    @property
    def _timed_precision(self) -> torch.autocast:
        precision = self._config.evaluate.precision
        return torch.autocast(self._device.type, PRECISIONS[precision], enabled=precision != "32")

    def _frozen(self, network: Network) -> tuple[Frozen, str]:
        return freeze(network.to(self._device), self._latency_clip, partial(fastest_milliseconds, device=self._device))

    def _sparsify(self, folder: Path, work: Path) -> None:
        schedule, target = self._config.schedule.sparsify, TARGETS[self._method.penalty]
        network = self._uncut()
        if self._method.normalised:
            normalise_filters(network, self._job.layout)
        module = Sparsify(
            network,
            self._plan,
            target,
            steps=schedule.steps,
            lr=schedule.lr,
            gate_lr=schedule.gate_lr,
            growth=schedule.growth,
            growth_interval=schedule.growth_interval,
            maximum=schedule.maximum,
        )
        self._fit(module, self._config.seed, folder, work)
        write_json(folder / "gates.json", cut_summary(module.network, self._plan, target))

    def _prune(self, folder: Path, work: Path) -> None:
        make = {"cut": self._cut, "scratch": self._new, "masked": self._zeroed}
        smaller, before, equivalence = make[self._method.start]()
        save_network(smaller, folder)
        after = self._quality(smaller)
        write_json(
            folder / "prune.json",
            {"before_cut": asdict(before or after), "after_cut": asdict(after), "equivalence": equivalence},
        )

    def _cut(self) -> tuple[Network, Quality | None, dict[str, float]]:
        """Cut, and prove on a real clip that the compact network equals the masked one."""
        network = self._uncut()
        equivalence = self._equivalence(network)
        before = self._quality(network)
        zero_cut_gates(network, self._plan)
        return compact(network.cpu(), self._plan), before, equivalence

    def _equivalence(self, network: Network) -> dict[str, float]:
        equivalence = {
            name: max(equivalence_error(network, self._plan, frames, dtype) for frames in self._real_frames())
            for name, dtype in (("float64", torch.float64), ("float32", torch.float32))
        }
        if not equivalence["float64"] <= EQUIVALENCE_TOLERANCE:
            raise AssertionError(
                f"surgery changed the network: compact and masked outputs differ by {equivalence['float64']:.2e}"
                f" (float64, relative), more than {EQUIVALENCE_TOLERANCE:g}"
            )
        return equivalence

    def _new(self) -> tuple[Network, Quality | None, dict[str, float]]:
        """New weights in the plan's shape; there is nothing that they could equal."""
        torch.manual_seed(self._config.seed)
        network = self._built().with_plan(self._plan)
        if self._config.pretrained_flow:
            load_flow(Path(self._config.pretrained_flow).expanduser(), network, self._note)
        return network, None, {}

    def _zeroed(self) -> tuple[Network, Quality | None, dict[str, float]]:
        """The dense network without its smallest weights."""
        dense = self._network("pretrain")
        return self._masked(self._plan)[0], self._quality(dense), self._equivalence(dense.cpu())

    def _real_frames(self) -> list[Tensor]:
        """Pieces of the first held-out clip, of several lengths and an odd size, in [0, 1]."""
        low_TCHW = self._clips.val[0].low_TCHW.float() / 255
        height, width = EQUIVALENCE_SIZE
        lengths = sorted({min(length, low_TCHW.shape[0]) for length in EQUIVALENCE_FRAMES})
        return [low_TCHW[None, :length, :, :height, :width] for length in lengths]

    def _finetune(self, folder: Path, work: Path) -> None:
        config, network = self._config, self._network("prune")
        teacher = None
        if config.tf_weight or config.method.output_weight:
            teacher = Teacher(self._network("pretrain"), config.tf_weight, config.method.output_weight)
        if self._method.start == "scratch":
            pretrain = config.schedule.pretrain
            torch.manual_seed(config.seed)  # of the adaptors
            module: TrainingStage = Scratch(
                network,
                teacher,
                steps=config.schedule.steps_from_scratch,
                lr=pretrain.lr,
                shape=pretrain.shape,
                trained_flow=self._trained_flow,
            )
        else:
            if self._method.start == "masked":
                hold_zeros(network, self._job.layout)
            schedule = config.schedule.finetune
            module = Finetune(
                network,
                teacher,
                train_flow=schedule.train_flow,
                steps=schedule.steps,
                lr=schedule.lr,
                shape=schedule.shape,
            )
        self._fit(module, config.seed, folder, work)

    def _evaluate(self, folder: Path, work: Path) -> None:
        pruned = self._network("finetune").to(self._device).eval()
        dense = self._network("pretrain").to(self._device).eval()
        places = [CropPlace(**place) for place in self._artifacts["reference"].json("reference.json")["crops"]]
        error, meter = HiddenError(), QualityMeter(self._config.comparison)
        for clip in self._clips.val:
            frames_TCHW, hidden = self._super_resolve(pruned, clip)
            meter.add(clip, frames_TCHW, self._motion(clip))
            if self._method.start != "scratch":  # states of networks that share no weights are not alike
                error.add(hidden, self._super_resolve(dense, clip)[1], pruned)
            for place in (place for place in places if place.clip == clip.name):
                save_crop(frames_TCHW, place, folder / "crops" / f"{place.clip}_pruned.png")
        write_json(
            folder / "evaluation.json",
            {
                "finetuned": asdict(meter.quality()),
                "hidden_error": error.per_frame(),
                "cost": asdict(self._cost(pruned.cpu())),
            },
        )

    def _cost(self, network: Network) -> NetworkCost:
        """Products with zeros that are held count for nothing, though a dense convolution computes them."""
        cost = network_cost(network, COST_SIZE)
        if self._method.start != "masked":
            return cost
        macs, parameters = zero_costs(network, self._job.layout)
        return cost.without(macs * COST_SIZE[0] * COST_SIZE[1], parameters)

    def _measure(self, folder: Path, work: Path) -> None:
        """Latency of the dense and the pruned network, each in its fastest form, in turns.

        The pruned one has the weights that the cut leaves it: they do not matter for its time.
        """
        evaluate = self._config.evaluate
        plans = {"dense": PrunePlan.keep_all(self._config.rule, self._job.layout), "pruned": self._plan}
        networks = {name: compact(self._network("pretrain"), plan) for name, plan in plans.items()}
        clip_NTCHW = self._latency_clip
        with self._timed_precision:
            frozen = {name: self._frozen(network) for name, network in networks.items()}
            timed: dict[str, Frozen | Compiled] = {name: pair[0] for name, pair in frozen.items()}
            if evaluate.compile:
                timed = {name: Compiled(network) for name, (network, _) in frozen.items()}
            latency = compare_latency(timed, clip_NTCHW, evaluate.latency_repeats)
            memory = {name: peak_memory(partial(network, clip_NTCHW), self._device) for name, network in timed.items()}
        write_json(
            folder / "measured.json",
            {
                "latency_ms": {
                    name: {**asdict(values), "memory_format": frozen[name][1]} for name, values in latency.items()
                },
                "peak_memory_mib": {name: None if peak is None else peak / 2**20 for name, peak in memory.items()},
                "precision": evaluate.precision,
                "compiled": evaluate.compile,
                **({} if evaluate.precision == "32" else {"psnr_change_db": self._psnr_change()}),
                "frame_size": list(evaluate.latency_size),
                "frames": evaluate.latency_frames,
                "repeats": evaluate.latency_repeats,
                "threads": torch.get_num_threads(),
                "device": str(self._device),
                "host": platform.node(),
                "processor": _processor(self._device),
                "git_commit": _git_commit(),
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "pytorch_lightning": version("pytorch_lightning"),
                },
            },
        )

    def _psnr_change(self) -> float:
        """PSNR of the fine-tuned network in the timed precision minus that in 32 bits, dB."""
        network = self._network("finetune")
        full = self._quality(network).psnr
        with self._timed_precision:
            change = self._quality(network).psnr - full
        self._say(f"  measure    {self._config.evaluate.precision} changes the PSNR by {change:+.3f} dB")
        return change


def _git_commit() -> str:
    """Commit of the checkout that runs, with `-dirty` after uncommitted changes; empty outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_atomically(folder / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
