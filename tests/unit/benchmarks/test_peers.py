"""What stands for the customary way computes what the network does, forward and backward."""

from __future__ import annotations

import pytest
import torch
from networks_made import random_clip, random_network, small_basicvsr

from benchmarks.peers import Customary
from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.pruning.surgery import compact


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("keeps_all", [True, False])
def test_the_customary_way_is_the_network(bidirectional: bool, keeps_all: bool) -> None:
    gated = random_network(small_basicvsr(bidirectional))
    layout = gated.channel_layout("rsc")
    plan = (
        PrunePlan.keep_all("rsc", layout)
        if keeps_all
        else PrunePlan.cutting("rsc", layout, {group.name: [0] for group in layout.groups})
    )
    network, frames_NTCHW = compact(gated, plan), random_clip(4)
    assert isinstance(network, BasicVSR)
    weight = network.get_submodule("forward_trunk.blocks").get_parameter("0.conv1.weight")
    gradients = []
    for gates in (False, True):
        customary = Customary(network, gates)
        torch.testing.assert_close(customary(frames_NTCHW), network(frames_NTCHW).frames_NTCHW)
        for output in (customary(frames_NTCHW), network(frames_NTCHW).frames_NTCHW):
            weight.grad = None
            output.square().sum().backward()
            assert weight.grad is not None
            gradients.append(weight.grad)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])
