"""The published protocols, and the refusal of what contradicts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsrprune.config.data import DEGRADATIONS
from vsrprune.errors import UserError
from vsrprune.results.protocols import OWN, PROTOCOLS, Comparison, comparison

PUBLISHED = {
    "reds4": Comparison("rgb", 0),
    "vid4": Comparison("y", 0),
    "udm10": Comparison("y", 0),
    "vimeo90k": Comparison("y", 0, centre=True),
}


def test_every_protocol_is_tested():
    assert PUBLISHED.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_basicvsr_compares(name):
    assert comparison(name, None, None) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_saying_what_the_protocol_says_is_allowed(name):
    expected = PUBLISHED[name]
    assert comparison(name, expected.channel, expected.crop) == expected


@pytest.mark.parametrize("name", ["vid4", "udm10"])
def test_eight_pixels_may_be_left_out_as_duf_does(name):
    assert comparison(name, None, 8) == Comparison("y", 8)


@given(channel=st.sampled_from([None, "rgb", "y"]), crop=st.none() | st.integers(0, 20))
def test_without_a_protocol_everything_is_one_s_own(channel, crop):
    assert comparison(OWN, channel, crop) == Comparison(channel or "y", crop or 0)


@pytest.mark.parametrize(("name", "channel", "crop", "expected"), [
    ("reds4", "y", None, "data.channel=y contradicts evaluate.protocol=reds4, which compares with data.channel=rgb;"
     " leave data.channel out, or use evaluate.protocol=full"),
    ("vid4", "rgb", None, "data.channel=rgb contradicts evaluate.protocol=vid4, which compares with data.channel=y;"
     " leave data.channel out, or use evaluate.protocol=full"),
    ("udm10", None, 4, "data.crop=4 contradicts evaluate.protocol=udm10, which compares with data.crop=0 or 8;"
     " leave data.crop out, or use evaluate.protocol=full"),
    ("vimeo90k", None, 8, "data.crop=8 contradicts evaluate.protocol=vimeo90k, which compares with data.crop=0;"
     " leave data.crop out, or use evaluate.protocol=full"),
    ("set5", None, None, "evaluate.protocol must be one of full, reds4, vid4, udm10, vimeo90k; got 'set5'"),
])  # fmt: skip
def test_contradictions_are_refused(name, channel, crop, expected):
    with pytest.raises(UserError) as caught:
        comparison(name, channel, crop)
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_degradations_of_a_protocol_exist(name):
    assert set(PROTOCOLS[name].degradations) <= set(DEGRADATIONS)
