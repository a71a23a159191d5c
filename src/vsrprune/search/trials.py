"""What a plan is worth, from cheap to dear: gates at zero, then the cut network after a few steps, then after more."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vsrprune.channels.layout import ChannelLayout
from vsrprune.channels.plan import PrunePlan
from vsrprune.data.clips import Clip
from vsrprune.data.sampling import PatchDataset, StepSampler, patch_loader
from vsrprune.errors import UserError
from vsrprune.networks.network import Network
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.surgery import compact
from vsrprune.results.protocols import Comparison
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.teacher import Teacher
from vsrprune.stages.quality import QualityMeter, super_resolve


@dataclass(frozen=True)
class Training:
    """The short fine-tuning of a trial: batches of `batch` clips, `frames` frames of `patch`, drawn by `seed`."""

    batch: int
    patch: int
    frames: int
    seed: int
    lr: float
    tf_weight: float
    train_flow: bool


@dataclass(frozen=True)
class Proof:
    """Everything a trial needs, in memory once.

    score_clips: clips that trials are scored on, and not fine-tuned on. compared: what of them the PSNR is of.
    """

    dense: Network
    layout: ChannelLayout
    scores: Mapping[str, NDArray[np.float64]]
    rule: str
    order: str
    train_clips: Sequence[Clip]
    score_clips: Sequence[Clip]
    training: Training
    compared: Comparison
    device: torch.device

    def plan(self, counts: Mapping[str, int]) -> PrunePlan:
        """The plan that keeps so many units of each layer, those of the best score."""
        return select(
            self.layout,
            self.scores,
            Asked(rule=self.rule, ratio=0.0, scope="per_layer", order=self.order, ratios=counts),
        )

    def psnr_at(
        self, counts: Mapping[str, int], rungs: Sequence[int], between_steps: Callable[[], None] = lambda: None
    ) -> Iterator[float]:
        """PSNR in dB on the scoring clips at each rung: after so many steps of fine-tuning.

        Rung 0 is the gated network with the cut gates at zero, without surgery. Every plan sees the same batches.
        """
        plan = self.plan(counts)
        if rungs[0] == 0:
            gated = copy.deepcopy(self.dense)
            zero_cut_gates(gated, plan)
            yield self._psnr(gated)
            rungs = rungs[1:]
        if not rungs:
            return
        training = self.training
        module = Finetune(
            compact(copy.deepcopy(self.dense).cpu(), plan).to(self.device),
            Teacher(self.dense, training.tf_weight, 0.0) if training.tf_weight > 0 else None,
            train_flow=training.train_flow,
            steps=rungs[-1],
            lr=training.lr,
            shape="constant",
        )
        optimizer = module.configure_optimizers()
        scale = self.dense.arguments.scale
        dataset = PatchDataset(self.train_clips, training.frames, training.patch, scale, training.seed)
        loader = patch_loader(dataset, StepSampler(rungs[-1], training.batch), workers=0)
        for step, batch in enumerate(loader, start=1):
            loss = torch.stack(list(module.losses(type(batch)(*(part.to(self.device) for part in batch))).values()))
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            between_steps()
            if step in rungs:
                yield self._psnr(module.network)

    def _psnr(self, network: Network) -> float:
        network, meter = network.to(self.device).eval(), QualityMeter(self.compared)
        for clip in self.score_clips:
            meter.add(clip, super_resolve(network, clip, self.device, mirrored=self.compared.centre)[0])
        return meter.quality().psnr


def split_for_scoring(clips: Sequence[Clip], count: int, frames: int, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Training clips that trials are fine-tuned on, and `count` others, drawn by `seed`, that they are scored on.

    The held-out clips stay out of a search: it would choose its winner by the numbers that report it.
    Raises UserError if no clip is left to train on.
    """
    if count >= len(clips):
        raise UserError(
            f"search.clips={count} takes all {len(clips)} training clips for scoring; allowed: 1..{len(clips) - 1}"
        )
    chosen = set(np.random.default_rng(seed).permutation(len(clips))[:count].tolist())
    scoring = [
        Clip(clip.name, clip.high_TCHW[:frames], clip.low_TCHW[:frames])
        for index, clip in enumerate(clips)
        if index in chosen
    ]
    return [clip for index, clip in enumerate(clips) if index not in chosen], scoring
