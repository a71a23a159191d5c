"""Graphs are traced without looking into a warp, and compute what it computes on frames of every size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._decomp import decomposition_table

from vsrprune.networks.graph import Graph
from vsrprune.networks.parts.layers import warp

OPEN = ("height", "width")


class Warp(nn.Module):
    def forward(self, state_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
        return warp(state_NCHW, flow_N2HW)


def test_a_warp_is_traced_by_its_shape_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_into = torch.ops.aten.grid_sampler_2d.default
    assert looked_into in decomposition_table
    monkeypatch.setitem(decomposition_table, looked_into, lambda *given: pytest.fail("this takes half of an export"))
    graph = Graph(Warp(), {"state": (1, 4, *OPEN), "flow": (1, 2, *OPEN)}, {"moved": (1, 4, *OPEN)})
    traced = graph.traced(smallest=4).module()
    for size in ((4, 4), (9, 31)):
        inputs = graph.example(size, 1)
        torch.testing.assert_close(traced(*inputs), warp(*inputs), rtol=0, atol=0)
