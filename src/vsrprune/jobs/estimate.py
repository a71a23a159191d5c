"""The time and disk that a stage will take, from the speed of this machine: steps, clips, frames, pixels and MACs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from vsrprune.channels.layout import ChannelLayout
from vsrprune.config.job import TIMED_TARGETS
from vsrprune.config.quantise import NONE
from vsrprune.jobs.speed import Held, Speed, held_out
from vsrprune.methods.table import METHODS
from vsrprune.selection.budget import REALTIME
from vsrprune.selection.scores import reads_batches
from vsrprune.stages.graph import RECIPES
from vsrprune.stages.job import Job
from vsrprune.stages.recipe import StagePlan

BYTES = 4  # of a parameter
ROW_BYTES = 150  # of a line in metrics.jsonl
MANIFEST_BYTES = 3000
OF_PIXELS = 3  # bytes of a PNG for each of its pixels, and of the crops beside it
PICTURES = 6  # of the crops of a held-out clip, of one frame of it besides
PROOF = 37 * 45 * 8 * 2 * 3  # pixels of the frames on which surgery is proven, twice, in float64 and float32
FORMS = 8  # calls of a network that choose its fastest form, beside those that are timed
CARD_SECONDS = 4  # of many calls that are timed on a GPU, however fast the network
TABLE_CALLS = 60  # frames in whose time the table of round_to=auto is made
EXPORT_SECONDS = 30  # in which the graphs of a network's steps are traced and written
PLANS_TIMED = 3  # by target=realtime
QUANTISING = 4  # calls of a network for each frame of a calibration clip
RECOMPUTED = 4 / 3  # a training step with trainer.checkpoint_frames, which computes the forward pass twice


@dataclass(frozen=True)
class Price:
    """Seconds, and bytes on disk."""

    seconds: float = 0.0
    size: float = 0.0

    def __add__(self, other: Price) -> Price:
        """Of both."""
        return Price(self.seconds + other.seconds, self.size + other.size)


@dataclass(frozen=True)
class _Known:
    """What the costs of a job's stages are computed from. share, compact: MACs and parameters of the pruned network,
    over those of the dense one, without the flow net; 1 where it keeps its shape. half: MACs of the network that was
    timed beside the dense one, likewise.
    """

    job: Job
    speed: Speed
    held: Held
    test: Held
    share: float
    compact: float
    half: float

    def step(self, share: float = 1.0, frames: int = 0) -> float:
        """Seconds of a training step of a network of that share of the MACs."""
        schedule, speed = self.job.config.schedule, self.speed
        # A line through the dense and the half network: what a call costs, and what arithmetic does. Between, or a
        # little beyond.
        slope = max(0.0, speed.step - speed.narrow_step) / (1 - self.half)
        seconds = max(speed.step - slope * (1 - share), 0.1 * speed.step)
        return seconds * self.batch(frames or schedule.frames)

    def batch(self, frames: int) -> float:
        """A batch of the schedule over the one that was timed."""
        schedule, devices = self.job.config.schedule, self.job.config.trainer.devices
        return schedule.batch / devices * frames * schedule.patch**2 / self.speed.pixels

    def restored(self, held: Held) -> float:
        """Seconds in which the dense network restores all of these clips."""
        # Mirrored clips are shown twice.
        times = 2 if self.job.config.comparison.centre else 1
        return self._frames(held) * times * self.speed.frame

    def compared(self, held: Held) -> float:
        """Seconds in which their frames are compared."""
        frames = held.clips * self._size(held) if self.job.config.comparison.centre else self._frames(held)
        return frames * self.speed.compare

    def pairs(self, held: Held) -> float:
        """Pairs of frames between which motion is looked for, in frames of the size that was timed."""
        evaluate = self.job.config.evaluate
        if not evaluate.temporal or held.frames < 2:
            return 0.0
        return held.clips * min(evaluate.temporal_pairs or math.inf, held.frames - 1) * self._size(held)

    def _frames(self, held: Held) -> float:
        return held.clips * held.frames * self._size(held)

    def _size(self, held: Held) -> float:
        return math.prod(held.size) / self.speed.shown

    def pixel(self) -> float:
        """Seconds of a pixel that is restored."""
        return self.speed.frame / self.speed.shown


def costs_of(job: Job, speed: Speed) -> Callable[[StagePlan], Price]:
    """What making a stage of a job costs at that speed."""
    half, _ = _shares(job.layout, 0.5)
    known = _Known(job, speed, *held_out(job), *pruned_shares(job), half)
    return partial(_cost, known)


def costs_by_key(jobs: Sequence[tuple[Job, Speed | None]]) -> dict[str, Price | None]:
    """The cost of every stage of jobs at these speeds, by its key; None where it is not known."""
    costs: dict[str, Price | None] = {}
    for job, speed in jobs:
        cost = None if speed is None else costs_of(job, speed)
        for plan in job.stages:
            if plan.key not in costs:
                costs[plan.key] = None if cost is None else cost(plan)
    return costs


def _cost(known: _Known, plan: StagePlan) -> Price:
    return Price(_SECONDS[plan.stage](known, steps_of(plan)), _bytes(known, plan) + MANIFEST_BYTES)


def pruned_shares(job: Job) -> tuple[float, float]:
    """MACs and parameters of the network that the job ends with, over those of the dense one."""
    config = job.config
    if METHODS[config.method.name].plan in ("whole", "masked"):
        return 1.0, 1.0
    if config.target == "units" and config.scope != "per_layer":
        return _shares(job.layout, config.ratio)
    # Milliseconds and layers given one by one are met in ways that are not known yet.
    share = 0.5 if config.target_ms or config.scope == "per_layer" else 1 - config.ratio
    return share, share


def _shares(layout: ChannelLayout, ratio: float) -> tuple[float, float]:
    kept = {group.name: max(1, round(group.size * (1 - ratio))) for group in layout.groups}
    macs = layout.macs_per_pixel(kept) / layout.macs_per_pixel()
    return macs, layout.parameters(kept) / layout.parameters()


def steps_of(plan: StagePlan) -> int:
    """How many steps a stage trains; 0 where it trains nothing."""
    return next((int(plan.settings[name]) for name in RECIPES[plan.stage].steps if name in plan.settings), 0)


def _trained(known: _Known, steps: int) -> float:
    again = RECOMPUTED if known.job.config.trainer.checkpoint_frames else 1
    return steps * known.step() * again


def _flow(known: _Known, steps: int) -> float:
    return steps * known.speed.flow_step * known.batch(known.job.config.schedule.frames)


def _pretrain(known: _Known, steps: int) -> float:
    return 1.0 if known.job.config.pretrained else _trained(known, steps)


def _sparsify(known: _Known, steps: int) -> float:
    config = known.job.config
    taught = (config.method.tf_in_sparsify and config.tf_weight > 0) or config.data.truth != "all"
    return _trained(known, steps) * (_with_teacher(1.0) if taught else 1.0) * _beside(known)


def _align(known: _Known, steps: int) -> float:
    taught = known.job.config.data.truth != "all"
    return _trained(known, steps) * (_with_teacher(1.0) if taught else 1.0) * _beside(known)


def _beside(known: _Known) -> int:
    """How many clips a step has for each of schedule.batch: as many without truth, where they are learnt from too."""
    return 2 if known.job.config.data.truth == "some" else 1


def _without_truth(known: _Known, times: int, held: Held) -> float:
    """Seconds in which the dense network restores clips so often, where it is what outputs are compared with."""
    return times * known.restored(held) if known.job.config.data.truth == "none" else 0.0


def _finetune(known: _Known, steps: int) -> float:
    config = known.job.config
    frames = 0 if METHODS[config.method.name].start == "scratch" else config.schedule.finetune_frames
    seconds = known.step(known.share, frames)
    if config.tf_weight or config.method.output_weight or config.data.truth != "all":
        seconds += known.step(1.0, frames) * (_with_teacher(1.0) - 1)
    return steps * seconds * _beside(known)


def _with_teacher(step: float) -> float:
    """A step beside which the dense network restores the batch, which is a third of its own step."""
    return step * 4 / 3


def _score(known: _Known, steps: int) -> float:
    config = known.job.config
    return config.score_batches * known.step() if reads_batches(config.score, config.score_batches) else 0.0


def _select(known: _Known, steps: int) -> float:
    job = known.job
    if job.config.target not in TIMED_TARGETS:
        return 0.0
    engines = job.engines if job.config.target == REALTIME else ()
    return _frame_timed(known) * FORMS + (PLANS_TIMED * EXPORT_SECONDS if engines else 0)


def _timing(known: _Known, steps: int) -> float:
    return _frame_timed(known) * TABLE_CALLS


def _frame_timed(known: _Known) -> float:
    return math.prod(known.job.config.evaluate.latency_size) * known.pixel()


def _reference(known: _Known, steps: int) -> float:
    alone = 2 if known.job.arguments.reach != (0, 0) else 1  # every frame once more by itself
    seconds = known.restored(known.held) * alone + known.restored(known.test)
    seconds += 2 * (known.compared(known.held) + known.compared(known.test))
    pairs = known.pairs(known.held) + known.pairs(known.test)
    return seconds + pairs * (known.speed.motion + 2 * known.speed.output_motion)


def _prune(known: _Known, steps: int) -> float:
    after = known.share * known.restored(known.held) + known.compared(known.held)
    if METHODS[known.job.config.method.name].start == "scratch":
        return after
    before = known.restored(known.held) + known.compared(known.held) + _without_truth(known, 2, known.held)
    return after + before + PROOF * known.pixel()


def _evaluate(known: _Known, steps: int) -> float:
    networks = known.share
    if known.job.arguments.branches and METHODS[known.job.config.method.name].start != "scratch":
        networks += known.share + 1  # hidden states: of the network before fine-tuning, and of the dense one
    seconds = networks * known.restored(known.held) + known.share * known.restored(known.test)
    seconds += known.compared(known.held) + known.compared(known.test)
    pairs = known.pairs(known.held) + known.pairs(known.test)
    seconds += _without_truth(known, 1, known.held) + _without_truth(known, 1, known.test)
    return seconds + pairs * known.speed.output_motion


def _quantise(known: _Known, steps: int) -> float:
    quantise, held = known.job.config.quantise, known.held
    share = quantise.clips * quantise.frames / max(held.clips * held.frames, 1)
    passes = known.share * known.restored(held)  # training clips are taken to be as large as held-out ones
    # Calibration, in 32 bits and in int8, and each of these once more on the held-out clips for hidden states.
    return EXPORT_SECONDS + passes * (QUANTISING * share + 5) + known.compared(held) * (1 + 2 * share)


def _measure(known: _Known, steps: int) -> float:
    evaluate = known.job.config.evaluate
    calls = FORMS + evaluate.latency_repeats
    seconds = evaluate.latency_frames * _frame_timed(known) * (1 + known.share) * calls
    seconds += CARD_SECONDS if known.job.place.cards else 0
    if not known.job.engines:
        return seconds
    plain = known.job.config.quantise.name == NONE
    networks = 1 + known.share * (1 if plain else 2)  # dense, and the fine-tuned one in 32 bits and in int8
    written = EXPORT_SECONDS * (2 if plain else 1)
    calls = len(known.job.engines) * evaluate.latency_repeats
    return seconds + written + networks * evaluate.latency_frames * _frame_timed(known) * calls


_SECONDS: Mapping[str, Callable[[_Known, int], float]] = {
    "flow": _flow,
    "pretrain": _pretrain,
    "reference": _reference,
    "align": _align,
    "timing": _timing,
    "score": _score,
    "select": _select,
    "sparsify": _sparsify,
    "prune": _prune,
    "finetune": _finetune,
    "evaluate": _evaluate,
    "quantise": _quantise,
    "measure": _measure,
}


def _bytes(known: _Known, plan: StagePlan) -> float:
    job, speed = known.job, known.speed
    of_layout = job.layout.parameters()
    dense = max(speed.parameters, of_layout)
    compact = dense - of_layout * (1 - known.compact)
    networks = {
        **dict.fromkeys(("flow", "pretrain", "align", "sparsify"), dense),
        **dict.fromkeys(("prune", "finetune"), compact),
        "quantise": 1.5 * compact,  # in 32 bits and, a quarter of that, in int8; a bit more for the graphs
    }
    rows = steps_of(plan) / job.config.schedule.log_every * ROW_BYTES
    pixels = math.prod(known.held.size) * job.arguments.scale**2 * OF_PIXELS
    shown = min(job.config.evaluate.crops, known.held.clips)
    pictures = {"reference": pixels, "evaluate": pixels / PICTURES}.get(plan.stage, 0.0) * shown
    scores = job.layout.units * 25 if plan.stage == "score" else 0.0
    kept = job.layout.units * 5 if plan.stage in ("select", "prune", "finetune") else 0.0
    return float(networks.get(plan.stage, 0.0) * BYTES + rows + pictures + scores + kept)
