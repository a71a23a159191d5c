"""One residual block in every form, plain and fused, and the arithmetic that none can do without.

    python benchmarks/fused.py [--precisions 16 tf32] [--kept 64 32 16 8] [--size 180 320] [--seconds 20]

Times on a CUDA device are of graphs of several calls, as `freeze` takes them; kernels are those of one call. `kept` is
how many channels the block reads, holds and writes. floor: 2 * MACs by the device's peak, for the devices in PEAKS.
Without a CUDA device it runs dry: small frames, with the CPU's operations in place of a card's, and no kernels. What
does not fit into the seconds is left out, and said.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from vsrprune.metrics.latency import fastest_milliseconds
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.fast import fused
from vsrprune.networks.fast.blocks import BlockShape, FrozenBlock, possible_forms
from vsrprune.networks.fast.graphs import recorder_of, time_unlaunched
from vsrprune.networks.fast.precision import PRECISIONS
from vsrprune.networks.parts.layers import ResidualBlock

CHANNELS = 64
# Dense teraflops of Tensor cores by the vendor's data sheet.
PEAKS = {"H100": {"16": 989.0, "bf16": 989.0, "tf32": 494.0}, "A100": {"16": 312.0, "bf16": 312.0, "tf32": 156.0}}


LINE = "{:9} {:>4}  {:7} {:8} {:16} {:7} {:>8} {:>8} {:>8}"


def main() -> None:
    """Measure and print, line by line."""
    given = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "dry run on a CPU"
    size = tuple(given.size) if device.type == "cuda" else (18, 32)
    ends = time.monotonic() + given.seconds
    print(f"{name}, torch {torch.__version__}, {CHANNELS} channels, {size[1]}x{size[0]}, channels_last")
    print(LINE.format("precision", "kept", "read", "write", "kernels", "counts", "us", "launches", "floor us"))
    for precision in given.precisions:
        with tf32(precision == "tf32"):
            started = time.monotonic()
            names = fused.available(device, PRECISIONS[precision]) if device.type == "cuda" else on_cpu()
            print(f"# {precision}: fused kernels {list(names)}, tried in {time.monotonic() - started:.1f} s")
            for kept in given.kept:
                if time.monotonic() > ends:
                    print(f"# {precision}, {kept} kept: left out, {given.seconds:g} s are over")
                    continue
                floor = floor_us(kept, size, precision, name)
                for row in rows(kept, size, PRECISIONS[precision], device, names):
                    print(LINE.format(precision, kept, *row, floor), flush=True)


def arguments() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--precisions", nargs="+", default=["16", "tf32"], choices=list(PRECISIONS))
    parser.add_argument("--kept", nargs="+", type=int, default=[64, 32, 16, 8])
    parser.add_argument("--size", nargs=2, type=int, default=[180, 320])
    parser.add_argument("--seconds", type=float, default=20)
    return parser.parse_args()


@torch.inference_mode()
def rows(
    kept: int, size: tuple[int, ...], dtype: torch.dtype, device: torch.device, names: Sequence[str]
) -> list[list[str]]:
    """By form its words, and microseconds and kernels of a call; the fastest first."""
    stream_NCHW = torch.rand(1, CHANNELS, *size, device=device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    block = residual_block(kept).to(device)
    position = {channel: channel for channel in range(CHANNELS)}
    shape = BlockShape(CHANNELS, kept, kept, kept)
    found = []
    for form in possible_forms(shape, names):
        frozen = FrozenBlock(block, position, form).to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        call = partial(frozen, stream_NCHW)
        measure = partial(time_unlaunched, call, partial(fastest_milliseconds, device=device), recorder_of(device))
        ms = fused.time_unless_it_fails(form.kernels, measure)
        found.append((1000 * ms, form, launches(call, device) if ms < math.inf else ""))
        stream_NCHW.zero_()  # it grows with every call
    return [
        [form.read, form.write, form.kernels, form.counts, f"{us:.1f}", count]
        for us, form, count in sorted(found, key=lambda row: row[0])
    ]


def floor_us(kept: int, size: tuple[int, ...], precision: str, card: str) -> str:
    """Microseconds of a block's arithmetic alone, where the card's peak is known."""
    macs = 2 * kept * kept * 9 * size[0] * size[1]
    peak = next((peaks.get(precision) for name, peaks in PEAKS.items() if name in card), None)
    return f"{2 * macs / peak / 1e6:.1f}" if peak else ""


def residual_block(kept: int) -> ResidualBlock:
    """A block that reads, holds and writes so many channels, spread over the stream."""
    some = torch.linspace(0, CHANNELS - 1, kept).round().long().tolist()
    convs = nn.Conv2d(kept, kept, 3, padding=1), nn.Conv2d(kept, kept, 3, padding=1)
    places = some if kept < CHANNELS else None
    return ResidualBlock(*convs, read=places, written=places).requires_grad_(False)


def launches(call: Callable[[], Tensor], device: torch.device) -> str:
    """How many kernels a call launches; empty on a CPU."""
    if device.type != "cuda":
        return ""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize(device)
    return str(sum(event.device_type == DeviceType.CUDA for event in seen.events() or []))


def on_cpu() -> tuple[str, ...]:
    """Have fused kernels run on a CPU, by its own operations, and name them."""

    def conv_relu(x: Tensor, weight: Tensor, bias: Tensor, stride: Any, padding: Any, *others: object) -> Tensor:
        return F.relu_(F.conv2d(x, weight, bias, stride, padding))

    torch.cudnn_convolution_relu = conv_relu  # type: ignore[assignment]
    fused.compiled = lambda function: function  # type: ignore[assignment]
    return tuple(name for name in fused.KERNELS if name not in (fused.PLAIN, fused.ONEDNN))


if __name__ == "__main__":
    main()
