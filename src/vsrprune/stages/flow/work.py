"""Train the flow net, and put a trained one into a network."""

from __future__ import annotations

from pathlib import Path

import torch

from vsrprune.networks.checkpoints import load_flow
from vsrprune.networks.network import Network
from vsrprune.stages.bench import Bench
from vsrprune.stages.flow.module import FlowTraining
from vsrprune.stages.flow.recipe import Inputs
from vsrprune.stages.saved import Trained


def make(bench: Bench, inputs: Inputs) -> Trained:
    """A network of which only the flow net is trained."""
    seed, schedule = bench.config.dense_seed, bench.config.schedule.flow
    torch.manual_seed(seed)
    network = bench.new_network()
    give_flow(bench, network)
    return Trained(bench.train(FlowTraining(network, schedule.steps, schedule.lr, schedule.shape), seed))


def give_flow(bench: Bench, network: Network, trained: Trained | None = None) -> None:
    """Replace the flow net by the trained one, or else by that of the file that `pretrained_flow` names, if any."""
    if trained is not None:
        source = trained.network.load().flow_net
        assert source is not None
        assert network.flow_net is not None
        network.flow_net.load_state_dict(source.state_dict())
    elif bench.config.pretrained_flow:
        load_flow(Path(bench.config.pretrained_flow).expanduser(), network, bench.note)
