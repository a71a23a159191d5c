"""Recurrence, upsampler and flow net are chosen apart: every combination is pruned, frozen and streamed alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_made import random_clip, random_network, small_basicvsr
from torch import Tensor

from vsrprune.channels.layout import RULES
from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.cells.spec import SHAPES
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.parts.upsamplers.table import UPSAMPLERS
from vsrprune.networks.table import identity_of
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.surgery import compact


def close(got: Tensor, expected: Tensor) -> bool:
    difference = (got.detach() - expected.detach()).abs().max()
    return bool(difference <= 1e-11 * expected.detach().abs().max())


@settings(max_examples=25)
@given(
    cell=st.sampled_from(sorted(SHAPES)),
    upsampler=st.sampled_from(sorted(UPSAMPLERS)),
    rule=st.sampled_from(RULES),
    factors=st.sampled_from([(2, 2), (3,)]),
    bidirectional=st.booleans(),
    flow_pruned=st.booleans(),
    flow_skipped=st.integers(0, 1),
    seed=st.integers(0, 2**20),
)
def test_compact_masked_and_frozen_are_one_function(
    cell: str,
    upsampler: str,
    rule: str,
    factors: tuple[int, ...],
    bidirectional: bool,
    flow_pruned: bool,
    flow_skipped: int,
    seed: int,
) -> None:
    arguments = small_basicvsr(
        bidirectional,
        cell=cell,
        upsampler=upsampler,
        upscale_factors=factors,
        flow_pruned=flow_pruned,
        flow_skipped=flow_skipped,
    )
    network, clip = random_network(arguments, signed=True), random_clip(3)
    layout = network.channel_layout(rule)
    draw = np.random.default_rng(seed)
    cut = {group.name: draw.permutation(group.size)[: draw.integers(0, group.size)].tolist() for group in layout.groups}
    plan = PrunePlan.cutting(rule, layout, cut)
    smaller = compact(network, plan).eval()
    zero_cut_gates(network, plan)
    expected = network(clip).frames_NTCHW
    assert close(smaller(clip).frames_NTCHW, expected)
    frozen, _ = freeze(smaller, clip, lambda call: (call(), 1.0)[1])  # type: ignore[func-returns-value]
    assert close(frozen(clip), expected)
    with torch.no_grad():
        streamed = [output.frame_NCHW for output in smaller.frame_by_frame(clip)]
    assert close(torch.stack(streamed, dim=1), expected)


def test_each_option_is_in_the_key_where_it_is_not_the_default() -> None:
    changes = {"cell": "gru", "upsampler": "light", "flow_skipped": 1, "flow_pruned": True}
    plain = identity_of(small_basicvsr())
    assert not set(changes) & set(plain)
    for name, value in changes.items():
        assert identity_of(small_basicvsr(**{name: value})) == {**plain, name: value}


@pytest.mark.parametrize("option", ["cell", "upsampler"])
def test_what_is_none_of_them_is_refused_by_name(option: str) -> None:
    with pytest.raises(UserError, match=rf"model\.{option} must be one of"):
        small_basicvsr(**{option: "nonsense"})
