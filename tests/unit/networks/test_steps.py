"""Stepping through a clip frame by frame is what the network does with the whole clip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.export import OnlineStep, Step, UpsamplerStep
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.graph import ClipGraph


def compact_network(rule: str, bidirectional: bool) -> BasicVSR:
    torch.manual_seed(0)
    network = BasicVSR(BasicVSRArguments(6, 2, 5, bidirectional, flow_levels=2, flow_kernel=3, flow_widths=(4,)))
    layout = network.channel_layout(rule)
    plan = PrunePlan.cutting(rule, layout, {g.name: {i % g.size} for i, g in enumerate(layout.groups)})
    network = network.with_plan(plan).double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def states(network: BasicVSR, branch: str, frames_NTCHW: Tensor) -> list[Tensor]:
    """By hand: the first frame seen is its own previous frame, its previous state is zero."""
    step = Step(network, branch)
    length = frames_NTCHW.shape[1]
    order = range(length)[:: -1 if branch == "backward" else 1]
    previous = frames_NTCHW[:, order[0]]
    state = torch.zeros(1, int(step.trunk.width), 9, 11, dtype=torch.float64)
    found: dict[int, Tensor] = {}
    for t in order:
        state = found[t] = step(frames_NTCHW[:, t], previous, state)
        previous = frames_NTCHW[:, t]
    return [found[t] for t in range(length)]


@pytest.mark.parametrize("rule", RULES)
@torch.no_grad()
def test_steps_of_both_branches_make_the_clip(rule: str) -> None:
    network = compact_network(rule, bidirectional=True)
    frames_NTCHW = torch.rand(1, 4, 3, 9, 11, dtype=torch.float64)
    by_branch = [states(network, branch, frames_NTCHW) for branch in ("backward", "forward")]
    upsampler = UpsamplerStep(network)
    stepped = [upsampler(frames_NTCHW[:, t], *(branch[t] for branch in by_branch)) for t in range(4)]
    torch.testing.assert_close(torch.stack(stepped, dim=1), ClipGraph(network)(frames_NTCHW), rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_online_steps_make_the_clip() -> None:
    network = compact_network("rsc", bidirectional=False)
    frames_NTCHW = torch.rand(1, 4, 3, 9, 11, dtype=torch.float64)
    step = OnlineStep(network)
    previous, state = frames_NTCHW[:, 0], torch.zeros(1, 6, 9, 11, dtype=torch.float64)
    for t in range(4):
        upscaled, state = step(frames_NTCHW[:, t], previous, state)
        previous = frames_NTCHW[:, t]
    torch.testing.assert_close(upscaled, network(frames_NTCHW).frames_NTCHW[:, 3], rtol=1e-11, atol=1e-11)
