from __future__ import annotations

import argparse

import pytest

from benchmarks.latency import asked_for
from benchmarks.upscaling import size_of
from vsrprune.errors import UserError


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("--device", "got '--device'"),
        ("precisions=[8]", "precisions must be one of 32, tf32, bf16, 16; got '8'"),
        ("precisions=16", "precisions must be a list"),
        ("table=foo", "table must be one of precisions, parts; got 'foo'"),
        ("model=edsr", "got 'edsr'"),
        ("blocksx=3", "got 'blocksx'"),
    ],
)
def test_options_of_the_latency_benchmark_that_are_unknown_are_refused_in_a_line(word: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        asked_for([word])
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_arguments_of_the_network_may_be_given_beside_options() -> None:
    given, arguments = asked_for(["model=basicvsr_tiny", "blocks=3", "precisions=[16,tf32]"])
    assert arguments.blocks == 3
    assert list(given.precisions) == [16, "tf32"]


def test_a_size_is_height_and_width_in_even_pixels() -> None:
    assert size_of("180x320") == (180, 320)
    for text in ("foo", "180", "180x", "0x320", "-2x4", "181x320"):
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            size_of(text)
