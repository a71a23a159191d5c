from __future__ import annotations

import pytest

from vsrprune.errors import UserError
from vsrprune.networks.basicvsr.spec import BasicVSRArguments, basicvsr_layout
from vsrprune.search.space import GROUPS, Range, make_space, refined

LAYOUT = basicvsr_layout(BasicVSRArguments(channels=8, blocks=2, upsampler_channels=8), "rsc")
LAYERS = [group.name for group in LAYOUT.groups]


@pytest.mark.parametrize("group", list(GROUPS))
def test_every_layer_has_exactly_one_dimension(group: str) -> None:
    space = make_space(LAYOUT, group, 0.0, 0.9)
    assert sorted(layer for layers in space.layers.values() for layer in layers) == sorted(LAYERS)
    assert list(space.ratios(dict.fromkeys(space.layers, 0.5)).values()) == [0.5] * len(LAYERS)


def test_dimensions_by_hand() -> None:
    def names(group: str) -> list[str]:
        return list(make_space(LAYOUT, group, 0.0, 0.9).layers)

    assert names("part") == ["backward", "forward", "upsampler"]
    assert names("kind") == ["input", "middle", "output", "fusion", "shuffle", "reconstruction"]
    assert names("block") == [
        "backward_trunk.blocks.0", "backward_trunk.blocks.1", "forward_trunk.blocks.0", "forward_trunk.blocks.1",
        "fusion", "upconv1", "upconv2", "conv_hr",
    ]  # fmt: skip
    assert names("layer") == LAYERS
    block = make_space(LAYOUT, "block", 0.0, 0.9).layers["forward_trunk.blocks.1"]
    assert block == tuple(f"forward_trunk.blocks.1.{name}" for name in ("conv1.input", "conv1", "conv2"))


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(UserError, match=r"search\.group"):
        make_space(LAYOUT, "blocks", 0.0, 0.9)


def test_only_what_the_dimensions_can_say_is_expressed() -> None:
    space = make_space(LAYOUT, "part", 0.1, 0.8)
    by_part = space.ratios({"backward": 0.2, "forward": 0.4, "upsampler": 0.8})
    assert space.express(by_part) == {"backward": 0.2, "forward": 0.4, "upsampler": 0.8}
    assert space.express({**by_part, LAYERS[0]: 0.3}) is None  # one layer of a part differs
    assert space.express({**by_part, **dict.fromkeys(space.layers["forward"], 0.9)}) is None  # out of bounds


def test_refined_stays_around_the_centre_and_within_the_bounds() -> None:
    centre = {name: place / (len(LAYERS) - 1) for place, name in enumerate(LAYERS)}
    space = refined(LAYOUT, centre, 0.1, 0.7, 0.2)
    for name, bounds in space.ranges.items():
        inside = min(max(centre[name], 0.1), 0.7)
        assert bounds == Range(max(0.1, inside - 0.2), min(0.7, inside + 0.2))
