"""What our networks cost beside the customary way to write them, and beside Torch-Pruning's result; all in turns.

    python benchmarks/peers.py [--model basicvsr_small] [--size 90 160] [--ratio 0.5] [--rounds 9] [--threads 1]

customary: BasicVSR as public code has it, written for this benchmark: out of place, contiguous, the grid of a warp made
anew for every frame, gates multiplied at run time, and pruned blocks that gather and scatter channels by lists, as the
released code of SSL does. It has our weights, and its outputs are held against ours before anything is timed.
ours: the frozen network in its fastest form here; in training the network as the stages train it. Torch-Pruning (pip
install -e '.[control]'; the settings of `benchmarks/outside_control.py`) cuts the same network to the same MACs and
runs in PyTorch as it leaves it. Weights and scores are random: times depend on shapes alone.

A forward pass is of three frames, a training step of `--batch 4` clips of `--frames 5` frames of `--patch 20` pixels.
The fastest of the rounds counts.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from vsrprune.channels.plan import PrunePlan
from vsrprune.cli import preset
from vsrprune.commands import CONF
from vsrprune.host.allocator import keep_freed_memory
from vsrprune.host.machine import measuring
from vsrprune.metrics.cost import network_cost
from vsrprune.metrics.latency import fastest_milliseconds, milliseconds
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import RGB, trunk
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.parts.layers import ResidualBlock
from vsrprune.pruning.losses import charbonnier
from vsrprune.pruning.scores.table import score_units
from vsrprune.pruning.surgery import compact
from vsrprune.selection.asked import Asked
from vsrprune.selection.units import select

CPU = torch.device("cpu")
CLIP = 3  # frames of a forward pass
CLOSE = 1e-4  # of outputs in float32


def main() -> None:
    """Measure in turns, and print ratios."""
    given = _arguments()
    keep_freed_memory()  # for all alike
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    gated = BasicVSR(preset(given.model).arguments)
    layout = gated.channel_layout("rsc")
    plan = select(layout, score_units(gated, layout, "random", 0), Asked(rule="rsc", ratio=given.ratio, target="macs"))
    pruned = compact(gated, plan).eval()
    size = (given.size[0], given.size[1])
    kept = network_cost(pruned, size).macs / network_cost(gated, size).macs
    with measuring():
        forward = forward_calls(gated, pruned, torch.rand(1, CLIP, RGB, *size), 1 - kept)
        training = training_calls(gated, pruned, given)
        print_times("forward, ms per frame", in_turns(forward, given.rounds), CLIP)
        print_times("training step, ms", in_turns(training, given.rounds), 1)
    print(
        f"{given.model}, {size[1]}x{size[0]}, {kept:.1%} of the MACs kept (random units, rsc);"
        f" {torch.get_num_threads()} thread(s), PyTorch {torch.__version__}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.stem for path in (CONF / "model").glob("basicvsr*.yaml") if "_pp" not in path.stem)
    parser.add_argument("--model", default="basicvsr_small", choices=names)
    parser.add_argument("--size", type=int, nargs=2, default=(90, 160), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--ratio", type=float, default=0.5, help="the share of the MACs that is cut")
    for name, default in (("rounds", 9), ("threads", 1), ("batch", 4), ("frames", 5), ("patch", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def forward_calls(
    gated: BasicVSR, pruned: BasicVSR, clip_NTCHW: Tensor, removed: float
) -> dict[str, Callable[[], object]]:
    """A forward pass of every network; their outputs are what they must be."""
    dense = _dense(gated)
    networks: dict[str, Callable[[Tensor], Tensor]] = {
        "dense, customary": Customary(dense).eval(),
        "dense, ours": _frozen(dense, clip_NTCHW),
        "pruned, customary": Customary(pruned).eval(),
        "pruned, ours": _frozen(pruned, clip_NTCHW),
    }
    with torch.no_grad():
        for name, network in networks.items():
            whole = dense if name.startswith("dense") else pruned
            torch.testing.assert_close(network(clip_NTCHW), whole(clip_NTCHW).frames_NTCHW, rtol=0, atol=CLOSE)
    if importlib.util.find_spec("torch_pruning") is None:
        print("left out: Torch-Pruning, which is not installed (pip install -e '.[control]')")
    else:
        from benchmarks.outside_control import cut_by_tracing

        cut = cut_by_tracing(lambda: copy.deepcopy(dense), removed).eval()
        networks["pruned, Torch-Pruning"] = lambda frames_NTCHW: cut(frames_NTCHW).frames_NTCHW

    def call(network: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.inference_mode():
            return network(clip_NTCHW)

    return {name: partial(call, network) for name, network in networks.items()}


def _dense(gated: BasicVSR) -> BasicVSR:
    """The dense network as it is used: gates folded."""
    return compact(gated, PrunePlan.keep_all("rsc", gated.channel_layout("rsc"))).eval()


def _frozen(network: BasicVSR, clip_NTCHW: Tensor) -> Callable[[Tensor], Tensor]:
    frozen: Callable[[Tensor], Tensor] = freeze(network, clip_NTCHW, partial(fastest_milliseconds, device=CPU))[0]
    return frozen


def training_calls(gated: BasicVSR, pruned: BasicVSR, given: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """A step of Adam on the reconstruction, flow net frozen: before the cut with gates, after it without."""
    low_NTCHW = torch.rand(given.batch, given.frames, RGB, given.patch, given.patch)
    side = given.patch * gated.arguments.scale
    high_NTCHW = torch.rand(given.batch, given.frames, RGB, side, side)
    calls: dict[str, Callable[[], object]] = {}
    for name, network in (("gated", gated), ("pruned", pruned)):
        for way in ("customary", "ours"):
            trained = copy.deepcopy(network).train()
            trained.flow_net.requires_grad_(False)
            module: nn.Module = trained
            if way == "customary":
                module = Customary(trained, gated=name == "gated")
            else:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the stages train it
            optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-4)
            calls[f"{name}, {way}"] = partial(_step, module, optimizer, low_NTCHW, high_NTCHW)
    return calls


def _step(module: nn.Module, optimizer: torch.optim.Optimizer, low_NTCHW: Tensor, high_NTCHW: Tensor) -> None:
    optimizer.zero_grad()
    output = module(low_NTCHW)
    frames_NTCHW = output if isinstance(output, Tensor) else output.frames_NTCHW
    charbonnier(frames_NTCHW, high_NTCHW).backward()
    optimizer.step()


class Customary(nn.Module):
    """A BasicVSR's function in the customary way, on that network's own modules.

    gated: a factor for every filter of a block, and for every channel that it reads, is multiplied at run time.
    """

    def __init__(self, network: BasicVSR, gated: bool = False) -> None:
        super().__init__()
        self.network = network
        self.blocks = nn.ModuleDict(
            {
                trunk(branch): nn.Sequential(
                    *(_Block(cast(ResidualBlock, block), gated) for block in _blocks(network, branch))
                )
                for branch in network.arguments.branches
            }
        )

    def forward(self, frames_NTCHW: Tensor) -> Tensor:
        """Frames (N, T, 3, H, W) to (N, T, 3, scale*H, scale*W)."""
        flows, length = self.network.flows(frames_NTCHW), frames_NTCHW.shape[1]
        states: dict[str, list[Tensor]] = {}
        for branch in self.network.arguments.branches:
            order = range(length - 1, -1, -1) if branch == "backward" else range(length)
            found: dict[int, Tensor] = {}
            for place, t in enumerate(order):
                flow_N2HW = None if place == 0 else flows[branch][:, min(t, order[place - 1])]
                found[t] = self._step(branch, frames_NTCHW[:, t], found[order[place - 1]] if place else None, flow_N2HW)
            states[branch] = [found[t] for t in range(length)]
        outputs = [self._enlarged([states[branch][t] for branch in states], frames_NTCHW[:, t]) for t in range(length)]
        return torch.stack(outputs, dim=1)

    def _step(self, branch: str, frame_NCHW: Tensor, state_NCHW: Tensor | None, flow_N2HW: Tensor | None) -> Tensor:
        first = cast(nn.Conv2d, self.network.get_submodule(f"{trunk(branch)}.first"))
        if state_NCHW is None or flow_N2HW is None:
            shape = (frame_NCHW.shape[0], first.out_channels, *frame_NCHW.shape[-2:])
            warped_NCHW = frame_NCHW.new_zeros(shape)
        else:
            warped_NCHW = _warped(state_NCHW, flow_N2HW)
        x_NCHW = F.leaky_relu(first(torch.cat([frame_NCHW, warped_NCHW], dim=1)), self.network.arguments.slope)
        refined_NCHW: Tensor = self.blocks[trunk(branch)](x_NCHW)
        return refined_NCHW

    def _enlarged(self, states: list[Tensor], frame_NCHW: Tensor) -> Tensor:
        network, slope = self.network, self.network.arguments.slope
        x_NCHW = torch.cat(states, dim=1)
        if network.arguments.bidirectional:
            x_NCHW = F.leaky_relu(network.fusion(x_NCHW), slope)
        detail_NCHW = network.detail(network.upsampled(x_NCHW))
        scale = float(network.arguments.scale)
        base_NCHW = F.interpolate(frame_NCHW, scale_factor=scale, mode="bilinear", align_corners=False)
        enlarged_NCHW: Tensor = base_NCHW + detail_NCHW
        return enlarged_NCHW


class _Block(nn.Module):
    """x + conv2(relu(conv1(x))), out of place; a pruned one reads and writes its channels by lists."""

    def __init__(self, block: ResidualBlock, gated: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = block.conv1, block.conv2
        self.read = None if block.read is None else block.read.tolist()
        self.written = None if block.written is None else block.written.tolist()
        widths = (block.conv1.in_channels, block.conv1.out_channels, block.conv2.out_channels)
        self.gates = nn.ParameterList(nn.Parameter(torch.ones(1, width, 1, 1)) for width in widths * gated)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Map the stream (N, C, H, W) to a new one."""
        y_NCHW = x_NCHW if self.read is None else x_NCHW[:, self.read]
        update_NCHW: Tensor
        if len(self.gates):
            inputs, inner, outputs = self.gates
            update_NCHW = self.conv2(F.relu(self.conv1(y_NCHW * inputs) * inner)) * outputs
        else:
            update_NCHW = self.conv2(F.relu(self.conv1(y_NCHW)))
        if self.written is None:
            return x_NCHW + update_NCHW
        whole_NCHW = x_NCHW.clone()
        whole_NCHW[:, self.written] = whole_NCHW[:, self.written] + update_NCHW
        return whole_NCHW


def _blocks(network: BasicVSR, branch: str) -> nn.Sequential:
    return cast(nn.Sequential, network.get_submodule(f"{trunk(branch)}.blocks"))


def _warped(x_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
    flow_NHW2 = flow_N2HW.permute(0, 2, 3, 1)
    height, width = x_NCHW.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places_NHW2 = torch.stack((columns, rows), dim=2).type_as(x_NCHW) + flow_NHW2
    x = 2.0 * places_NHW2[..., 0] / max(width - 1, 1) - 1.0
    y = 2.0 * places_NHW2[..., 1] / max(height - 1, 1) - 1.0
    places_NHW2 = torch.stack((x, y), dim=3)
    sampled_NCHW: Tensor = F.grid_sample(x_NCHW, places_NHW2, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled_NCHW


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The fastest milliseconds of each call; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            ms = milliseconds(call, CPU)
            times[name] += [ms] if turn else []
    return {name: min(values) for name, values in times.items()}


def print_times(title: str, times: Mapping[str, float], per: int) -> None:
    """A row per call, and how many times longer than ours of the same network it takes."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for heading in ("network", "ms", "beside ours"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for name, ms in times.items():
        ours = times[f"{name.partition(',')[0]}, ours"]
        table.add_row(name, f"{ms / per:.1f}", f"{ms / ours:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
