"""Video in, video out: read, super-resolve in pieces, write."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vsrprune.data.sources import FRAME_SUFFIX
from vsrprune.data.video.colour import RgbFrame
from vsrprune.data.video.footage import Footage, TimedFrame, look_over
from vsrprune.data.video.writing import choose_encoding, open_writer
from vsrprune.errors import UserError, one_of
from vsrprune.host.progress import StageProgress
from vsrprune.metrics.latency import fastest_milliseconds
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.fast.device_operations import timed_size
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.fast.precision import PRECISIONS
from vsrprune.networks.network import Network
from vsrprune.use.load import STAGES, load_trained
from vsrprune.use.streaming import Pieces, upscaled_frames

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class UpscalingRequest:
    """What the command line asks for.

    `rate` is the number of frames per second of a folder of PNGs. `crf` and `codec` are None for the usual ones of the
    container. `threads` is the number of CPU threads of the network, 0 for PyTorch's choice.
    """

    source: Path
    target: Path
    model: Path
    store: Path
    pieces: Pieces
    which: str = "pruned"
    rate: Fraction = Fraction(25)
    codec: str | None = None
    crf: int | None = None
    device: str = "cpu"
    precision: str = "32"
    threads: int = 0
    overwrite: bool = False


def upscale(request: UpscalingRequest, say: Callable[[str], None]) -> None:
    """Do what is asked; raises UserError for anything that cannot be, as far as possible before any work starts."""
    _check(request)
    encoding = choose_encoding(request.target, request.codec, request.crf)
    _check_target(request)
    # Read to its end before any work starts, so that a file that is cut off is refused at once and not after hours.
    footage = look_over(request.source, request.rate)
    network = load_trained(request.model, request.store, lambda text: say(f"warning: {text}"), request.which)
    if request.threads:
        torch.set_num_threads(request.threads)
    device, scale = torch.device(request.device), network.arguments.scale
    size = (footage.height * scale, footage.width * scale)
    say(
        f"{request.source}: {footage.width}x{footage.height}, {footage.frames} frames,"
        f" to {size[1]}x{size[0]} by {request.model}"
    )
    with (
        tf32(request.precision != "32"),
        open_writer(request.target, encoding, footage, size, say) as writer,
    ):
        frozen = _fastest(network.to(device), footage, request.pieces, PRECISIONS[request.precision])
        started, written = time.monotonic(), 0
        with StageProgress("upscale", footage.frames) as progress:
            for frame in _frames(frozen, footage, request.pieces, device):
                writer.write(frame)
                written += 1
                progress.update(min(written, footage.frames))
    seconds = time.monotonic() - started
    say(f"{request.target}: {written} frames in {seconds:.1f} s, {written / seconds:.2f} frames per second")


def _check(request: UpscalingRequest) -> None:
    pieces = request.pieces
    one_of("--device", request.device, DEVICES)
    one_of("--precision", request.precision, PRECISIONS)
    one_of("--which", request.which, STAGES)
    for name, value, least in (
        ("--window", pieces.window, 1),
        ("--overlap", pieces.overlap, 0),
        ("--tile", pieces.tile, 0),
        ("--tile-overlap", pieces.tile_overlap, 0),
        ("--threads", request.threads, 0),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}; got {value}")
    if request.rate <= 0:
        raise UserError(f"--fps must be more than 0; got {request.rate}")
    if request.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no GPU here; use --device cpu")


def _check_target(request: UpscalingRequest) -> None:
    """Nothing is written over by accident, and of folders only those of frames on purpose."""
    source, target = request.source, request.target
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(f"{target}: the output is the input; give another name")
    if not target.parent.is_dir():
        raise UserError(f"{target}: there is no folder {target.parent}; make it first")
    if not target.exists():
        return
    if not target.suffix and not target.is_dir():
        raise UserError(f"{target}: is a file, but a name without suffix is written as a folder of PNG frames")
    if target.suffix and target.is_dir():
        raise UserError(f"{target}: is a folder; give the name of a file")
    if target.is_dir():
        others = [entry.name for entry in target.iterdir() if entry.is_dir() or entry.suffix.lower() != FRAME_SUFFIX]
        if others:
            raise UserError(f"{target}: holds other things than PNG frames ({others[0]}), so it is not replaced")
    if not request.overwrite and (target.is_file() or any(target.iterdir())):
        raise UserError(f"{target}: exists; give another name, or --overwrite to replace it")


def _fastest(network: Network, footage: Footage, pieces: Pieces, dtype: torch.dtype) -> Frozen:
    """The form that is fastest on frames of the footage's shape, of as many pixels as it takes to tell."""
    device = next(network.parameters()).device
    sides = [side if not pieces.tile else min(side, pieces.tile) for side in (footage.height, footage.width)]
    frame_NTCHW = torch.rand(1, 1, RGB, *timed_size((sides[0], sides[1]), device), device=device)
    return freeze(network, frame_NTCHW, partial(fastest_milliseconds, device=device), dtype)[0]


def _frames(network: Frozen, footage: Footage, pieces: Pieces, device: torch.device) -> Iterator[TimedFrame]:
    times: deque[int] = deque()  # of frames that were read and are not yet super-resolved

    def read() -> Iterator[Tensor]:
        for pixels_HW3, pts in footage.read():
            times.append(pts)
            yield torch.tensor(pixels_HW3, device=device).permute(2, 0, 1)[None].float() / 255

    for high_NCHW in upscaled_frames(network, read(), pieces, _to_8_bits):
        yield TimedFrame(_pixels(high_NCHW), times.popleft())


def _to_8_bits(high_NCHW: Tensor) -> Tensor:
    # In 8 bits finished tiles are smaller than the hidden states of all tiles would be, so tiles can follow one
    # another.
    return (high_NCHW.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def _pixels(high_NCHW: Tensor) -> RgbFrame:
    pixels: RgbFrame = high_NCHW[0].permute(1, 2, 0).contiguous().numpy()
    return pixels
