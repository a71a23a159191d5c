"""What a plan is worth, from cheap to dear: gates at zero, then the cut network after a few steps, then after more."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.data.clips import Clip
from vsrprune.data.sampling import PatchDataset, Patches, StepSampler, patch_loader
from vsrprune.errors import UserError
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.network import Network
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.surgery import compact
from vsrprune.results.protocols import Comparison
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.quality import QualityMeter, restored
from vsrprune.stages.training.teacher import Teacher


@dataclass(frozen=True)
class Training:
    """The short fine-tuning of a trial: batches of `batch` clips, `frames` frames of `patch`, drawn by `seed`.

    Its teacher is the dense network, since a trial cuts in one shot.
    """

    batch: int
    patch: int
    frames: int
    seed: int
    lr: float
    tf_weight: float
    train_flow: bool
    truncate: int


@dataclass(frozen=True)
class TrialBench:
    """Everything that a trial needs, in memory once for all of them.

    `asked` holds the residual rule, the order and the fewest channels of every plan. Trials are scored on
    `score_clips`, which are not among those that they are fine-tuned on; `compared` says on which channel and crop.
    """

    dense: Network
    layout: ChannelLayout
    scores: Mapping[str, NDArray[np.float64]]
    asked: Asked
    train_clips: Sequence[Clip]
    score_clips: Sequence[Clip]
    training: Training
    compared: Comparison
    device: torch.device

    def plan(self, counts: Mapping[str, int]) -> PrunePlan:
        """The plan that keeps so many units of each layer, those of the best score."""
        return select(self.layout, self.scores, replace(self.asked, scope="per_layer", ratios=counts))

    def psnr_at(
        self, counts: Mapping[str, int], rungs: Sequence[int], between_steps: Callable[[], None] = lambda: None
    ) -> Iterator[float]:
        """PSNR in dB on the scoring clips at each rung: after so many steps of fine-tuning.

        Rung 0 is the gated network with the cut gates at zero, without surgery. Every plan sees the same batches.
        """
        plan = self.plan(counts)
        if rungs[0] == 0:
            # A copy: gates are set to zero in place, and all trials share the dense network.
            gated = copy.deepcopy(self.dense)
            zero_cut_gates(gated, plan)
            yield self._psnr(gated)
            rungs = rungs[1:]
        if not rungs:
            return
        module = self._compact(plan, rungs[-1])
        optimizer = module.configure_optimizers()
        for step, batch in enumerate(self._batches(rungs[-1]), start=1):
            patches = Patches(*(part.to(self.device) for part in batch))
            loss = torch.stack(list(module.losses(patches.floats()).values()))
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            between_steps()
            if step in rungs:
                yield self._psnr(module.network)

    def _compact(self, plan: PrunePlan, steps: int) -> Finetune:
        """The cut network, to be fine-tuned for `steps`."""
        training = self.training
        # The copy comes before cpu(), which would move the shared network itself.
        student = compact(copy.deepcopy(self.dense).cpu(), plan).to(self.device)
        student.gradient_frames = training.truncate
        return Finetune(
            student,
            Teacher(self.dense, training.tf_weight, 0.0) if training.tf_weight > 0 else None,
            train_flow=training.train_flow,
            steps=steps,
            lr=training.lr,
            shape="constant",  # so that what a rung scores does not depend on the rungs after it
        )

    def _batches(self, steps: int) -> Iterable[Patches]:
        training = self.training
        dataset = PatchDataset(
            self.train_clips, training.frames, training.patch, self.dense.arguments.scale, training.seed
        )
        return patch_loader(dataset, StepSampler(steps, training.batch), workers=0)

    def _psnr(self, network: Network) -> float:
        network, meter = network.to(self.device).eval(), QualityMeter(self.compared, self.device)
        for clip in self.score_clips:
            # Compared as the final runs are, mirrored clips and centre frames included: a search that chose by another
            # number than the one reported would prefer other plans.
            with tf32(False):  # as final runs are evaluated
                meter.add(clip, restored(network, clip, self.device, self.compared.centre))
        return meter.quality().psnr


def check_scoring_clips(count: int, there: int) -> None:
    """Raise UserError unless a training clip is left of those that are there."""
    if count >= there:
        raise UserError(f"search.clips={count} takes all {there} training clips for scoring; allowed: 1..{there - 1}")


def split_for_scoring(clips: Sequence[Clip], count: int, frames: int, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Training clips that trials are fine-tuned on, and `count` others, drawn by `seed`, that they are scored on.

    The held-out clips stay out of a search: it would choose its winner by the numbers that report it.
    Raises UserError if no clip is left to train on.
    """
    check_scoring_clips(count, len(clips))
    chosen = set(np.random.default_rng(seed).permutation(len(clips))[:count].tolist())
    scoring = [
        Clip(clip.name, clip.high_TCHW[:frames], clip.low_TCHW[:frames])
        for index, clip in enumerate(clips)
        if index in chosen
    ]
    return [clip for index, clip in enumerate(clips) if index not in chosen], scoring
