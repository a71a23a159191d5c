"""Video in, video out: read, super-resolve in pieces, write; each in a thread of its own."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vsrprune.data.sources import FRAME_SUFFIX
from vsrprune.data.video.colour import Colour, RgbFrame
from vsrprune.data.video.footage import Footage, TimedFrame, look_over
from vsrprune.data.video.writing import choose_encoding, open_writer
from vsrprune.engines.extras import ENGINES, check_engine, installed
from vsrprune.errors import UserError, one_of
from vsrprune.host.allocator import keep_freed_memory
from vsrprune.host.progress import StageProgress
from vsrprune.metrics.latency import fastest_milliseconds
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.fast.device_operations import timed_size
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.fast.precision import PRECISIONS
from vsrprune.networks.graph import random_clip
from vsrprune.networks.network import Network
from vsrprune.results.measured import AUTO, TORCH
from vsrprune.use.load import INT8, STAGES, int8_graphs, load_trained
from vsrprune.use.overlap import read_ahead, write_behind
from vsrprune.use.streaming import Pieces, Windowed, upscaled_frames
from vsrprune.use.transfer import from_device, to_8_bits, to_device, to_host_memory

FASTEST = 1000  # frames per second; containers count in milliseconds, and encoders refuse extremes
DEVICES = ("auto", "cpu", "cuda")
USUAL_PRECISION = {"cpu": "32", "cuda": "16"}
USUAL_RATE = Fraction(25)  # of a folder of PNG frames, per second
MOST_THREADS = 1024  # as trainer.threads
COMPARED = 4  # frames from which the cost of a lower precision is told
TRIED_FRAMES = 4  # of the clip by which engines are timed
ENGINE_NAMES = (TORCH, *ENGINES, AUTO)

Say = Callable[[str], None]


@dataclass(frozen=True)
class UpscalingRequest:
    """What the command line asks for.

    `model` is None where several are compared. `rate` is the number of frames per second of a folder of PNGs, None for
    the usual one; a video has its own. `crf` and `codec` are None for the usual ones of the container, `precision` is
    None for the usual one of the device; `auto` is a GPU where there is one. `engine` is one of
    ENGINE_NAMES. `threads` is the number of CPU threads of the network, 0 for PyTorch's choice. `background`
    is what is seen through transparent frames, which are refused if it is None.
    """

    source: Path
    target: Path
    model: Path | None
    store: str | Path
    pieces: Pieces
    which: str = "pruned"
    rate: Fraction | None = None
    codec: str | None = None
    crf: int | None = None
    device: str = "auto"
    precision: str | None = None
    threads: int = 0
    overwrite: bool = False
    background: Colour | None = None
    engine: str = TORCH


def upscale(request: UpscalingRequest, say: Say) -> None:
    """Do what is asked; raises UserError for anything that cannot be, as far as possible before any work starts."""
    check_request(request)
    encoding = choose_encoding(request.target, request.codec, request.crf)
    check_target(request)
    footage = footage_of(request)
    assert request.model is not None

    def warn(text: str) -> None:
        say(f"warning: {text}")

    network = load_trained(request.model, request.store, warn, request.which)
    kept = int8_graphs(request.model, request.store, warn) if request.precision == INT8 else None
    keep_freed_memory()
    if request.threads:
        torch.set_num_threads(request.threads)
    device = torch.device("cpu") if request.engine in ENGINES else device_named(request.device)
    if request.engine == AUTO and device.type != "cpu":
        say(f"note: the engines run on the CPU alone; torch on {name_of(device)} is taken")
        request = replace(request, engine=TORCH)
    scale = network.arguments.scale
    precision = request.precision or USUAL_PRECISION[device.type]
    size = (footage.height * scale, footage.width * scale)
    say(
        f"{request.source}: {footage.width}x{footage.height}, {footage.frames} frames,"
        f" to {size[1]}x{size[0]} by {request.model} on {name_of(device)}"
    )
    for note in footage.notes:
        say(f"note: {note}")
    with (
        within_memory(request.pieces),
        tf32(precision != "32"),
        open_writer(request.target, encoding, footage, size, say) as writer,
    ):
        runs = _runs(network.to(device), footage, request, precision, say, kept)
        started, written = time.monotonic(), itertools.count(1)
        with StageProgress("upscale", footage.frames) as progress:

            def write(frame: TimedFrame) -> None:
                writer.write(frame)
                progress.update(min(next(written), footage.frames))

            side_by_side(runs, footage.read(), request.pieces, device, write)
    frames = next(written) - 1
    seconds = time.monotonic() - started
    say(f"{request.target}: {frames} frames in {seconds:.1f} s, {frames / seconds:.2f} frames per second")


def _runs(
    network: Network, footage: Footage, request: UpscalingRequest, precision: str, say: Say, kept: Path | None
) -> Windowed:
    """What runs the network: the engine that is asked for, or the fastest of those that are installed.

    kept: the folder of graphs that the engine is to run, where they are not to be made of the network.
    """
    frozen, device = None, next(network.parameters()).device
    if request.engine in (TORCH, AUTO):
        frozen = fastest_for(network, footage, request.pieces, precision)
        if precision != "32":
            frames_NTCHW = _first_frames(footage, request.pieces, device)
            say(_told_cost(network, frames_NTCHW, frozen(frames_NTCHW), precision))
        if request.engine == TORCH:
            return frozen
    from vsrprune.use.engines import in_engine  # with onnx, which is an extra

    names = [request.engine] if frozen is None else installed()
    threads = torch.get_num_threads()
    candidates: dict[str, Windowed] = {} if frozen is None else {TORCH: frozen}
    for name in names:
        try:
            candidates[name] = in_engine(name, network, request.store, threads, say, kept)
        except UserError as error:
            if frozen is None:
                raise
            say(f"note: {error}")
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    size = _tried_size(footage, request.pieces, torch.device("cpu"))
    clip_NTCHW = random_clip(TRIED_FRAMES, size)
    times = {
        name: fastest_milliseconds(partial(_restored, candidate, clip_NTCHW), torch.device("cpu")) / TRIED_FRAMES
        for name, candidate in candidates.items()
    }
    fastest = min(times, key=lambda name: times[name])
    told = ", ".join(f"{name} {ms:.3g}" for name, ms in times.items())
    say(f"ms per frame at {size[1]}x{size[0]}: {told}; {fastest} is taken")
    return candidates[fastest]


@torch.inference_mode()
def _restored(network: Windowed, clip_NTCHW: Tensor) -> list[Tensor]:
    frames = [frame_NCHW.contiguous() for frame_NCHW in clip_NTCHW.unbind(1)]
    return [high_NCHW for high_NCHW, _ in network.restore_window(frames, range(len(frames)), None)]


def check_request(request: UpscalingRequest) -> None:
    """Raise UserError for numbers and names that cannot be."""
    pieces = request.pieces
    one_of("--device", request.device, DEVICES)
    if request.precision is not None:
        one_of("--precision", request.precision, (*PRECISIONS, INT8))
    one_of("--which", request.which, STAGES)
    one_of("--engine", request.engine, ENGINE_NAMES)
    check_engine(request.engine, f"--engine {request.engine}: ")
    if request.precision == INT8:
        _check_int8(request)
    elif request.engine in ENGINES:
        for flag, given, usual in (("--precision", request.precision, "32"), ("--device", request.device, "cpu")):
            if given not in (None, "auto", usual):
                raise UserError(
                    f"{flag} {given}: --engine {request.engine} computes in 32 bits or int8 on the CPU; leave it out"
                )
    if request.threads > MOST_THREADS:  # a hundred million end the process without a word
        raise UserError(f"--threads must be at most {MOST_THREADS}; got {request.threads}")
    for name, value, least in (
        ("--window", pieces.window, 1),
        ("--overlap", pieces.overlap, 0),
        ("--tile", pieces.tile, 0),
        ("--tile-overlap", pieces.tile_overlap, 0),
        ("--threads", request.threads, 0),
    ):
        if value < least:
            raise UserError(f"{name} must be at least {least}; got {value}")
    if request.rate is not None and not Fraction(1, FASTEST) <= request.rate <= FASTEST:
        raise UserError(f"--fps must be from 1/{FASTEST} to {FASTEST}; got {request.rate}")
    if request.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no GPU here; use --device cpu")


def _check_int8(request: UpscalingRequest) -> None:
    if request.engine not in ENGINES:
        raise UserError(
            f"--precision int8 is for {' or '.join(f'--engine {name}' for name in ENGINES)}; add one of them"
        )
    if request.which != "pruned":
        raise UserError(f"--precision int8 is of the network that a job fine-tuned; got --which {request.which}")
    if request.device not in ("auto", "cpu"):
        raise UserError(f"--device {request.device}: --engine {request.engine} runs on the CPU; leave it out")


def footage_of(request: UpscalingRequest) -> Footage:
    """The source, read to its end: a file that is cut off is refused at once and not after hours. Raises UserError."""
    footage = look_over(request.source, request.rate or USUAL_RATE, request.background)
    if request.rate is not None and footage.is_video:
        raise UserError(
            f"--fps {request.rate} is for folders of PNG frames, but {request.source} is a video, which keeps its own"
            " times; leave it out"
        )
    return footage


def check_target(request: UpscalingRequest) -> None:
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
    if not request.overwrite and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: exists; give another name, or --overwrite to replace it")


def device_named(name: str) -> torch.device:
    """A name in DEVICES as a device; `auto` is a GPU where PyTorch finds one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def name_of(device: torch.device) -> str:
    """How messages name a device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


@contextlib.contextmanager
def within_memory(pieces: Pieces) -> Iterator[None]:
    """A GPU that is too small is a matter of tiles, and no defect."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        given = f"--tile {pieces.tile}" if pieces.tile else "whole frames (--tile 0)"
        smaller = pieces.tile // 2 or 256
        raise UserError(
            f"{given}: the GPU's memory does not hold what the network needs; give --tile {smaller} or less"
        ) from error


def _tried_size(footage: Footage, pieces: Pieces, device: torch.device) -> tuple[int, int]:
    """Height and width of frames of the footage's shape, of as many pixels as it takes to tell forms apart."""
    sides = [side if not pieces.tile else min(side, pieces.tile) for side in (footage.height, footage.width)]
    return timed_size((sides[0], sides[1]), device)


def fastest_for(network: Network, footage: Footage, pieces: Pieces, precision: str) -> Frozen:
    """The form that is fastest on frames of the footage's shape, in the precision in which it will run."""
    device = next(network.parameters()).device
    frame_NTCHW = torch.rand(1, 1, RGB, *_tried_size(footage, pieces, device), device=device)
    with tf32(precision != "32"):
        return freeze(network, frame_NTCHW, partial(fastest_milliseconds, device=device), PRECISIONS[precision])[0]


def _first_frames(footage: Footage, pieces: Pieces, device: torch.device) -> Tensor:
    """The middle of the first frames as a clip (1, T, 3, H, W)."""
    # As many pixels as on a CPU: the network that is compared with is not frozen, and needs far more memory.
    height, width = _tried_size(footage, pieces, torch.device("cpu"))
    top, left = (footage.height - height) // 2, (footage.width - width) // 2
    first = [pixels_HW3 for pixels_HW3, _ in itertools.islice(footage.read(), COMPARED)]
    clip_NTCHW = torch.stack([to_device(to_host_memory(pixels_HW3, device), device) for pixels_HW3 in first], dim=1)
    return clip_NTCHW[..., top : top + height, left : left + width].contiguous()


@torch.inference_mode()
def _told_cost(network: Network, frames_NTCHW: Tensor, output_NTCHW: Tensor, precision: str) -> str:
    """How close an output in a lower precision is to that of the network in 32 bits, in words."""
    with tf32(False):
        exact_NTCHW = network(frames_NTCHW).frames_NTCHW
    error = float((output_NTCHW.double().clamp(0, 1) - exact_NTCHW.double().clamp(0, 1)).square().mean())
    close = f"{-10 * math.log10(error):.1f} dB" if error else "no difference"
    frames = frames_NTCHW.shape[1]
    return f"precision {precision}: PSNR against 32 bits on the first {frames} frames: {close}; see --precision"


def side_by_side(
    network: Windowed,
    frames: Generator[TimedFrame, None, None],
    pieces: Pieces,
    device: torch.device,
    write: Callable[[TimedFrame], None],
) -> None:
    """Super-resolve frames on `device`, while one thread reads further ones and another writes those before.

    `write` gets them in order. No more frames are held than a window reads, and a few in the queues on both sides.
    """
    times: deque[int] = deque()  # of frames that were read and are not yet super-resolved

    def read() -> Generator[tuple[Tensor, int], None, None]:
        with contextlib.closing(frames):  # its file, in the thread that has it open
            for pixels_HW3, pts in frames:
                yield to_host_memory(pixels_HW3, device), pts

    def arriving(waiting: Iterable[tuple[Tensor, int]]) -> Iterator[Tensor]:
        for pixels_HW3, pts in waiting:
            times.append(pts)
            yield to_device(pixels_HW3, device)

    def put_down(done: tuple[Callable[[], RgbFrame], int]) -> None:
        pixels, pts = done
        write(TimedFrame(pixels(), pts))

    # In 8 bits finished tiles are smaller than the hidden states of all tiles would be, so tiles can follow one
    # another; they wait for their frame on the host, since tiles are asked for where the device's memory is short.
    finish = _to_host if pieces.tile else to_8_bits
    with read_ahead(read()) as waiting, write_behind(put_down) as hand_on:
        for high_NCHW in upscaled_frames(network, arriving(waiting), pieces, finish):
            hand_on((from_device(high_NCHW), times.popleft()))


def _to_host(high_NCHW: Tensor) -> Tensor:
    return to_8_bits(high_NCHW).cpu()
