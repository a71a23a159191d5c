from __future__ import annotations

import pytest

from benchmarks.half_of_units import Size, sizes, solved
from vsrprune.channels.plan import PrunePlan
from vsrprune.config.model import small_arguments
from vsrprune.metrics.cost import network_cost
from vsrprune.networks.basicvsr.network import BasicVSR


def test_trunk_and_upsampler_are_the_whole_network() -> None:
    network = BasicVSR(small_arguments())
    layout = network.channel_layout("rsc")
    trunk, upsampler = sizes(layout, PrunePlan.keep_all("rsc", layout))
    cost = network_cost(network, (180, 320))
    assert trunk.macs + upsampler.macs == cost.macs
    assert trunk.parameters + upsampler.parameters == cost.parameters


def test_shares_follow_from_two_figures() -> None:
    # A quarter of the trunk and half of the upsampler: 25 + 50 MACs, 10 + 5 parameters.
    dense = (Size(100, 40), Size(100, 10))
    assert solved(Size(75, 15), dense) == (pytest.approx(Size(25, 10)), pytest.approx(Size(50, 5)))
