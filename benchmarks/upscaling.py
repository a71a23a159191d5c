"""How many frames per second `src/upscale.py` makes of a video, and each of its parts by itself.

    python benchmarks/upscaling.py [--device cuda] [--sizes 180x320 720x1280] [--precision 16] [--model NETWORK_FOLDER]
        [--json FILE]

Parts: `decode` reads the video, `network` takes frames from memory and gives them back (with the copies to the device
and back), `encode` writes them as libx264. `in turns` is what they would make one after the other, and `end to end`
what the command makes of the file, from when its network is ready. Rounds go through all of them in turns; the fastest
counts. The video shows noise that drifts, which is harder to code than most footage. Without --model the network is
BasicVSR as published, not trained and not pruned. Without a GPU, sizes and network are small: a test of the script.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from vsrprune.data.video.colour import RgbFrame
from vsrprune.data.video.footage import Footage, TimedFrame, look_over
from vsrprune.data.video.writing import choose_encoding, open_writer
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.files import save_network
from vsrprune.networks.table import build
from vsrprune.use.load import load_trained
from vsrprune.use.streaming import Pieces
from vsrprune.use.upscaling import (
    USUAL_PRECISION,
    UpscalingRequest,
    fastest_for,
    side_by_side,
    upscale,
)

PARTS = ("decode", "network", "encode", "in turns", "end to end")
SIZES = {"cuda": [(180, 320), (720, 1280)], "cpu": [(32, 48), (48, 64)]}
SMALL = BasicVSRArguments(channels=8, blocks=1, upsampler_channels=8, flow_levels=2, flow_kernel=3, flow_widths=(4,))


def main() -> None:
    """Print a row per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision")
    parser.add_argument("--sizes", nargs="+", type=size_of, help="height x width of the input, like 180x320")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--window", type=int, default=30)
    parser.add_argument("--tile", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the frames per second of every part here too")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU here; use --device cpu")
    device = torch.device(given.device)
    precision = given.precision or USUAL_PRECISION[device.type]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    table = Table(title=f"frames per second on {where}, precision {precision}", box=box.SIMPLE)
    for heading in ("input", "output", *PARTS):
        table.add_column(heading, justify="right")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or new_model(Path(folder) / "model", device)
        for height, width in given.sizes or SIZES[device.type]:
            size = f"{height}x{width}"
            bench = Bench(Path(folder), model, given.frames, (height, width))
            rates = bench.rates(Pieces(given.window, 5, given.tile), device, precision, given.rounds)
            found[size] = rates
            table.add_row(size, "x".join(map(str, bench.high)), *(f"{rates[part]:.2f}" for part in PARTS))
    Console(width=120).print(table)
    if given.json:
        given.json.write_text(json.dumps(found))


def size_of(text: str) -> tuple[int, int]:
    """Height and width of `180x320`; both are even, as the video's format has it."""
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()) or 0 in (int(height), int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} must be HEIGHTxWIDTH in pixels, like 180x320")
    if int(height) % 2 or int(width) % 2:
        raise argparse.ArgumentTypeError(f"{text!r}: height and width must be even")
    return int(height), int(width)


def new_model(folder: Path, device: torch.device) -> Path:
    """A network that is not trained."""
    torch.manual_seed(0)
    folder.mkdir()
    save_network(build(BasicVSRArguments() if device.type == "cuda" else SMALL), folder)
    return folder


class Bench:
    """A video of a size, and the parts of upscaling it."""

    def __init__(self, folder: Path, model: Path, frames: int, size: tuple[int, int]) -> None:
        self.folder, self.model, self.count = folder, model, frames
        self.source = make_video(folder / f"{size[0]}x{size[1]}.mp4", frames, size)
        self.footage: Footage = look_over(self.source, Fraction(25))
        self.network = load_trained(model, folder, print)
        scale = self.network.arguments.scale
        self.high = (size[0] * scale, size[1] * scale)

    def rates(self, pieces: Pieces, device: torch.device, precision: str, rounds: int) -> dict[str, float]:
        """Frames per second of every part."""
        frozen = fastest_for(self.network.to(device), self.footage, pieces, precision)
        frames = list(self.footage.read())
        drifting = noise(self.high, 8)
        request = UpscalingRequest(
            self.source, self.folder / "out.mp4", self.model, self.folder, pieces, device=device.type,
            precision=precision, overwrite=True,
        )  # fmt: skip
        told: list[str] = []

        def network() -> None:
            with tf32(precision != "32"):
                side_by_side(frozen, given(frames), pieces, device, lambda frame: None)

        def encode() -> None:
            target = self.folder / "encoded.mp4"
            with open_writer(target, choose_encoding(target, None, None), self.footage, self.high, print) as writer:
                for index, (_, pts) in enumerate(frames):
                    writer.write(TimedFrame(drifting[index % len(drifting)], pts))
            target.unlink()

        network()  # the first call allocates
        parts: dict[str, Callable[[], object]] = {
            "decode": lambda: sum(1 for _ in self.footage.read()), "network": network, "encode": encode,
        }  # fmt: skip
        seconds: dict[str, float] = dict.fromkeys(parts, float("inf"))
        whole = 0.0
        for _ in range(rounds):
            for name, part in parts.items():
                started = time.perf_counter()
                part()
                seconds[name] = min(seconds[name], time.perf_counter() - started)
            upscale(request, told.append)
            whole = max(whole, float(told[-1].split(", ")[-1].split()[0]))
        rates = {name: self.count / taken for name, taken in seconds.items()}
        return {**rates, "in turns": self.count / sum(seconds.values()), "end to end": whole}


def given(frames: list[TimedFrame]) -> Generator[TimedFrame, None, None]:
    """Frames that are in memory."""
    yield from frames


def noise(size: tuple[int, int], count: int) -> list[RgbFrame]:
    """Noise of eight pixels' grain that drifts by two pixels a frame."""
    height, width = size
    grain = np.random.default_rng(0).integers(0, 256, (height // 8 + 2, width // 8 + count + 2, 3), dtype=np.uint8)
    whole = grain.repeat(8, 0).repeat(8, 1)
    return [np.ascontiguousarray(whole[:height, 2 * index : 2 * index + width]) for index in range(count)]


def make_video(file: Path, count: int, size: tuple[int, int]) -> Path:
    """The noise as libx264."""
    frames = noise(size, count)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for pixels_HW3 in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HW3, format="rgb24")))
        container.mux(stream.encode(None))
    return file


if __name__ == "__main__":
    main()
