"""Train the compact network."""

from __future__ import annotations

import torch

from vsrprune.networks.network import Network
from vsrprune.pruning.reparametrisation import hold_zeros
from vsrprune.stages.bench import Bench
from vsrprune.stages.finetune.module import Finetune
from vsrprune.stages.finetune.recipe import Inputs
from vsrprune.stages.finetune.scratch import Scratch
from vsrprune.stages.pretrain.work import trained_flow
from vsrprune.stages.saved import Trained
from vsrprune.stages.training.module import TrainingStage
from vsrprune.stages.training.teacher import Teacher


def make(bench: Bench, inputs: Inputs) -> Trained:
    """The compact network, trained."""
    config, network, teacher = bench.config, inputs.pruned.network.load(), None
    if inputs.teacher is not None:
        weights = (config.tf_weight, config.method.output_weight, config.data.weight_without_truth)
        teacher = Teacher(inputs.teacher.network.load(), *weights)
    if bench.method.start == "scratch":
        return Trained(bench.train(_scratch(bench, network, teacher), config.pruning_seed))
    module = _finetune(bench, network, teacher)
    return Trained(bench.train(module, config.pruning_seed, config.schedule.finetune_frames))


def _scratch(bench: Bench, network: Network, teacher: Teacher | None) -> TrainingStage:
    config = bench.config
    torch.manual_seed(config.pruning_seed)  # the adaptors draw their weights when the module is made
    return Scratch(
        network,
        teacher,
        steps=config.lengths.scratch,
        lr=config.schedule.pretrain.lr,
        shape=config.schedule.pretrain.shape,
        trained_flow=trained_flow(bench),
    )


def _finetune(bench: Bench, network: Network, teacher: Teacher | None) -> TrainingStage:
    schedule = bench.config.schedule.finetune
    if bench.method.start == "masked":
        hold_zeros(network, bench.job.layout)
    network.gradient_frames = schedule.truncate
    return Finetune(
        network,
        teacher,
        train_flow=schedule.train_flow,
        steps=bench.config.lengths.finetune,
        lr=schedule.lr,
        shape=schedule.shape,
    )
