"""Small networks in which every parameter matters, and clips of noise for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.basicvsr_pp.spec import BasicVSRPPArguments
from vsrprune.networks.edvr.spec import EDVRArguments
from vsrprune.networks.network import Network
from vsrprune.networks.table import build

SMALL_FLOW = {"flow_levels": 2, "flow_kernel": 3, "flow_widths": (4,)}


def small_basicvsr(bidirectional: bool = True, **changes: Any) -> BasicVSRArguments:
    """Four channels, two blocks a branch."""
    values = {"channels": 4, "blocks": 2, "upsampler_channels": 5, **SMALL_FLOW}
    return BasicVSRArguments(**{**values, "bidirectional": bidirectional, **changes})


def small_basicvsr_pp(**changes: Any) -> BasicVSRPPArguments:
    """Four channels, two blocks a branch, one deformable group a channel."""
    blocks = {"blocks": 2, "extract_blocks": 1, "reconstruction_blocks": 1}
    widths = {"channels": 4, "upsampler_channels": 5, "deformable_groups": 4, "max_residue": 1.5}
    return BasicVSRPPArguments(**{**blocks, **widths, **SMALL_FLOW, **changes})


def small_edvr(**changes: Any) -> EDVRArguments:
    """Four channels in two deformable groups."""
    values = {"channels": 4, "deformable_groups": 2, "upsampler_channels": 5, "extract_blocks": 1}
    return EDVRArguments(**{**values, "reconstruction_blocks": 2, **changes})


def randomise(module: nn.Module, seed: int = 0, signed: bool = False) -> None:
    """Every parameter at random: no bias, gate, offset or flow keeps the value at which it does nothing.

    Gates are about 1, or with `signed` of both signs and none near zero.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if name.endswith("gate"):
                parameter.copy_(noise.sign() * (0.5 + noise.abs()) if signed else 1 + noise / 2)
            elif name.endswith("bias"):
                parameter.copy_(0.2 * noise)  # larger ones leave units that no input wakes
            else:
                parameter.copy_(noise / max(parameter[0].numel(), 4) ** 0.5)


def split_otherwise(network: nn.Module) -> None:
    """Multiply every gate by a factor, and divide the weights and the bias that it scales by the same."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            for side in ("gate", "input_gate"):
                gate = getattr(module, side, None)
                if gate is None:
                    continue
                factor = torch.rand(gate.shape, generator=generator, dtype=gate.dtype) * 3 + 0.1
                gate.mul_(factor)
                if side == "gate":
                    filters = factor.repeat_interleave(module.filters_per_unit)
                    module.weight.div_(filters.view(-1, 1, 1, 1))
                    module.bias.div_(filters)
                else:
                    module.weight.div_(factor.view(1, -1, 1, 1))


def random_network(arguments: Any, seed: int = 0, signed: bool = False, dtype: torch.dtype = torch.float64) -> Network:
    """The network of some arguments, randomised."""
    network = build(arguments).to(dtype)
    randomise(network, seed, signed)
    return network.eval()


def random_clip(
    length: int, height: int = 7, width: int = 9, batch: int = 1, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Noise in [0, 1], (batch, length, 3, height, width); the sides are odd on purpose."""
    generator = torch.Generator().manual_seed(length)
    return torch.rand(batch, length, 3, height, width, generator=generator, dtype=dtype)
