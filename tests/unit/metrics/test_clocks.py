"""The clocks of a card as nvidia-smi states them."""

from __future__ import annotations

import pytest
import torch

from vsrprune.metrics.clocks import _read, clocks


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("1980, 1980, 2619", "SM 1980 of 1980 MHz, memory 2619 MHz"),
        ("[N/A], 1980, 2619", ""),
        ("No devices were found", ""),
        ("", ""),
    ],
)
def test_what_nvidia_smi_says_is_put_into_words(answer: str, words: str) -> None:
    assert _read(["echo", answer]) == words


def test_where_it_is_missing_or_fails_nothing_is_said() -> None:
    assert _read(["no-such-command-as-this"]) == ""
    assert _read(["false"]) == ""
    assert clocks(torch.device("cpu")) == ""
