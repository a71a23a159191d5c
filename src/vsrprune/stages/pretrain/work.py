"""Train the dense network, or read it."""

from __future__ import annotations

from pathlib import Path

import torch

from vsrprune.config.job import pretrained_file
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.files import save_network
from vsrprune.stages.bench import Bench
from vsrprune.stages.flow.work import give_flow
from vsrprune.stages.pretrain.module import Pretrain, TrainedFlow
from vsrprune.stages.pretrain.recipe import Inputs
from vsrprune.stages.saved import SavedNetwork, Trained


def make(bench: Bench, inputs: Inputs) -> Trained:
    """The dense network with its gates."""
    config = bench.config
    if config.pretrained:
        network = load_dense(Path(pretrained_file(config)).expanduser(), bench.job.arguments, bench.note)
        save_network(network, bench.folder)
        return Trained(SavedNetwork(bench.folder))
    # Before the network is built: the seed of the stage is that of its initialisation too.
    torch.manual_seed(config.dense_seed)
    network, schedule = bench.new_network(), config.schedule.pretrain
    give_flow(bench, network, inputs.flow)
    module = Pretrain(network, schedule.steps, schedule.lr, schedule.shape, trained_flow(bench))
    return Trained(bench.train(module, config.dense_seed))


def trained_flow(bench: Bench) -> TrainedFlow | None:
    """How a flow net trains on that was trained before; None for one that starts from scratch."""
    schedule = bench.config.schedule.pretrain
    was_trained = bench.config.pretrained_flow or any(plan.stage == "flow" for plan in bench.job.stages)
    return TrainedFlow(schedule.flow_frozen_steps, schedule.flow_lr_share) if was_trained else None
