"""Small networks in which every weight, bias and gate matters."""

from collections.abc import Callable
from typing import Any

import networks_made
import pytest
import torch

from vsrprune.networks.basicvsr.network import BasicVSR


def _random_network(
    bidirectional: bool = True, dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any
) -> BasicVSR:
    arguments = networks_made.small_basicvsr(bidirectional, **changes)
    network = networks_made.random_network(arguments, seed, signed=True, dtype=dtype)
    assert isinstance(network, BasicVSR)
    return network.train()


@pytest.fixture(scope="session")
def random_network() -> Callable[..., BasicVSR]:
    """Makes a gated network with every parameter at random, the flow net's last convolutions too."""
    return _random_network


@pytest.fixture(scope="session")
def random_clip() -> Callable[..., torch.Tensor]:
    """Makes a clip (1, length, 3, 7, 9) of noise in [0, 1]; the sides are odd on purpose."""
    return networks_made.random_clip
