"""Small networks in which every weight, bias and gate matters."""

from collections.abc import Callable

import pytest
import torch

from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments

FLOW = {"flow_levels": 2, "flow_kernel": 3, "flow_widths": (4,)}


def _random_network(
    bidirectional: bool = True,
    channels: int = 4,
    blocks: int = 2,
    upsampler_channels: int = 5,
    upscale_factors: tuple[int, ...] = (2, 2),
    slope: float = 0.1,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> BasicVSR:
    arguments = BasicVSRArguments(
        channels=channels,
        blocks=blocks,
        upsampler_channels=upsampler_channels,
        bidirectional=bidirectional,
        upscale_factors=upscale_factors,
        slope=slope,
        **FLOW,
    )
    network = BasicVSR(arguments).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=dtype)
            if name.endswith("gate"):
                parameter.copy_(noise.sign() * (0.5 + noise.abs()))  # of both signs, none near zero
            elif name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return network


def _random_clip(length: int, height: int = 7, width: int = 9, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.rand(1, length, 3, height, width, generator=generator, dtype=dtype)


@pytest.fixture(scope="session")
def random_network() -> Callable[..., BasicVSR]:
    """Makes a gated network with every parameter at random, the flow net's last convolutions too."""
    return _random_network


@pytest.fixture(scope="session")
def random_clip() -> Callable[..., torch.Tensor]:
    """Makes a clip (1, length, 3, 7, 9) of noise in [0, 1]; the sides are odd on purpose."""
    return _random_clip
