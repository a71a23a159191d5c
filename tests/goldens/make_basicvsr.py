"""Make basicvsr.safetensors and basicvsr.npz from the golden values of BasicSR, which are too large for a repository.

Usage: python tests/goldens/make_basicvsr.py FOLDER_OF_BASICSR_VALUES

BasicVSR is written here a second time, as plain functions of a state dict in BasicSR's names: nothing is imported from
vsrprune, warping is indexing instead of grid_sample, and the pyramid is a loop over levels. The script stops unless
these functions give BasicSR's flows and output with BasicSR's weights. See README.md for what is written and why.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).parent
FLOW_WIDTHS = (4, 8, 8, 4)  # the published (32, 64, 32, 16) take 2.9 MB
LEVELS = 6
CLOSE = 1e-5
Weights = Mapping[str, Tensor]


def conv(weights: Weights, name: str, x_NCHW: Tensor) -> Tensor:
    """A convolution whose output is as large as its input."""
    weight = weights[f"{name}.weight"]
    return F.conv2d(x_NCHW, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)


def leaky(x: Tensor) -> Tensor:
    """LeakyReLU(0.1), the activation outside residual blocks."""
    return torch.where(x > 0, x, 0.1 * x)


def warp(x_NCHW: Tensor, flow_N2HW: Tensor, border: bool) -> Tensor:
    """`x` at each pixel's position plus its flow (x, y), bilinearly; outside are zeros, or with `border` its edge."""
    count, channels, height, width = x_NCHW.shape
    x_at = torch.arange(width) + flow_N2HW[:, 0]
    y_at = torch.arange(height)[:, None] + flow_N2HW[:, 1]
    if border:
        x_at, y_at = x_at.clamp(0, width - 1), y_at.clamp(0, height - 1)
    left, top = x_at.floor(), y_at.floor()
    total = torch.zeros_like(x_NCHW)
    for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        share = (1 - (x_at - x).abs()) * (1 - (y_at - y).abs()) * inside
        place = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long().view(count, 1, -1)
        values = x_NCHW.view(count, channels, -1).gather(2, place.expand(-1, channels, -1))
        total += values.view_as(total) * share[:, None]
    return total


def spynet(weights: Weights, reference_NCHW: Tensor, supporting_NCHW: Tensor) -> Tensor:
    """Flow (N, 2, H, W) in pixels from the reference to the supporting frame, coarse to fine."""
    height, width = reference_NCHW.shape[-2:]
    high, wide = (-(-side // 32) * 32 for side in (height, width))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pyramids = []
    for frame_NCHW in (reference_NCHW, supporting_NCHW):
        levels = [(F.interpolate(frame_NCHW, (high, wide), mode="bilinear", align_corners=False) - mean) / std]
        for _ in range(LEVELS - 1):
            levels.insert(0, F.avg_pool2d(levels[0], 2))
        pyramids.append(levels)
    flow = torch.zeros(reference_NCHW.shape[0], 2, high // 32, wide // 32)
    for level, (reference, supporting) in enumerate(zip(*pyramids, strict=True)):
        if level:
            flow = 2 * F.interpolate(flow, reference.shape[-2:], mode="bilinear", align_corners=True)
        x = torch.cat((reference, warp(supporting, flow, border=True), flow), dim=1)
        for layer in range(5):
            x = conv(weights, f"spynet.basic_module.{level}.basic_module.{2 * layer}", x if layer == 0 else x.relu())
        flow = flow + x
    flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
    return flow * torch.tensor([width / wide, height / high]).view(1, 2, 1, 1)


def flows_of(weights: Weights, frames_NTCHW: Tensor) -> dict[str, Tensor]:
    """Flows (N, T-1, 2, H, W): `backward` from frame t to t+1, `forward` from frame t+1 to t."""
    earlier, later = frames_NTCHW[:, :-1].flatten(0, 1), frames_NTCHW[:, 1:].flatten(0, 1)
    return {
        "backward": spynet(weights, earlier, later)[None],
        "forward": spynet(weights, later, earlier)[None],
    }


def branch(weights: Weights, name: str, frames_NTCHW: Tensor, flows_NT2HW: Tensor) -> list[Tensor]:
    """The hidden state of every frame, in frame order."""
    length = frames_NTCHW.shape[1]
    order = list(range(length)) if name == "forward" else list(range(length))[::-1]
    states: dict[int, Tensor] = {}
    channels = weights[f"{name}_trunk.main.0.bias"].shape[0]
    state = torch.zeros(1, channels, *frames_NTCHW.shape[-2:])
    for t in order:
        if states:
            state = warp(state, flows_NT2HW[:, min(t, order[len(states) - 1])], border=False)
        state = leaky(conv(weights, f"{name}_trunk.main.0", torch.cat((frames_NTCHW[:, t], state), dim=1)))
        for block in range(2):
            inner = conv(weights, f"{name}_trunk.main.2.{block}.conv1", state).relu()
            state = state + conv(weights, f"{name}_trunk.main.2.{block}.conv2", inner)
        states[t] = state
    return [states[t] for t in range(length)]


def basicvsr(weights: Weights, frames_NTCHW: Tensor, flows: Mapping[str, Tensor]) -> Tensor:
    """The clip (1, T, 3, 4H, 4W)."""
    both = [branch(weights, name, frames_NTCHW, flows[name]) for name in ("backward", "forward")]
    outputs = []
    for t, pair in enumerate(zip(*both, strict=True)):
        x = leaky(conv(weights, "fusion", torch.cat(pair, dim=1)))
        for name in ("upconv1", "upconv2"):
            x = leaky(F.pixel_shuffle(conv(weights, name, x), 2))
        base = F.interpolate(frames_NTCHW[:, t], scale_factor=4, mode="bilinear", align_corners=False)
        outputs.append(conv(weights, "conv_last", leaky(conv(weights, "conv_hr", x))) + base)
    return torch.stack(outputs, dim=1)


def small_spynet() -> dict[str, Tensor]:
    """Random weights of a SPyNet of FLOW_WIDTHS: float16, and large enough for flows of some pixels."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    sizes = (8, *FLOW_WIDTHS, 2)
    for level in range(LEVELS):
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            name = f"spynet.basic_module.{level}.basic_module.{2 * layer}"
            spread = (1 / (49 * inputs)) ** 0.5
            weights[f"{name}.weight"] = (spread * torch.randn(outputs, inputs, 7, 7, generator=generator)).half()
            weights[f"{name}.bias"] = (0.1 * torch.randn(outputs, generator=generator)).half()
    return weights


def quantised(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Values as uint16, and the lowest value and the step (float64): value = lowest + step * number."""
    lowest = float(values.min())
    step = (float(values.max()) - lowest) / 65535
    return ((values.double() - lowest) / step).round().numpy().astype(np.uint16), np.array([lowest, step])


def main(folder: Path) -> None:
    """Check the functions above against BasicSR's values, then write the two files."""
    theirs = load_file(folder / "basicvsr_f16b2_weights_fp16.safetensors")
    with np.load(folder / "basicvsr_f16b2_io.npz") as file:
        given = {name: torch.from_numpy(file[name]) for name in file.files}
    frames_NTCHW = given["frames_NTCHW"]

    weights = {name: value.float() for name, value in theirs.items()}
    flows = flows_of(weights, frames_NTCHW)
    pairs = [(flows[name], given[f"flows_{name}"]) for name in ("backward", "forward")]
    pairs.append((basicvsr(weights, frames_NTCHW, flows), given["output_NTCHW"]))
    for found, expected in pairs:
        difference = float((found - expected).abs().max())
        print(f"differs from BasicSR by {difference:.1e}, of up to {float(expected.abs().max()):.2f}")
        assert difference < CLOSE

    ours = {name: value for name, value in theirs.items() if not name.startswith("spynet.")} | small_spynet()
    save_file(ours, HERE / "basicvsr.safetensors")
    weights = {name: value.float() for name, value in ours.items()}
    flows = flows_of(weights, frames_NTCHW)
    middle = basicvsr(weights, frames_NTCHW, flows)[:, 2]
    print(f"flows of the small flow net: up to {max(float(value.abs().max()) for value in flows.values()):.2f} pixels")
    arrays = {name: given[name].numpy() for name in ("frames_NTCHW", "flows_backward", "flows_forward")}
    arrays |= {f"small_flows_{name}": value.numpy() for name, value in flows.items()}
    arrays["output_NTCHW"], arrays["output_scale"] = quantised(given["output_NTCHW"])
    arrays["small_middle_NCHW"], arrays["small_middle_scale"] = quantised(middle)
    np.savez_compressed(HERE / "basicvsr.npz", **arrays)


if __name__ == "__main__":
    with torch.no_grad():
        main(Path(sys.argv[1]))
