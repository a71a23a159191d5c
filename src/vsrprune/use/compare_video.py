"""One video out of several networks: side by side or with a moving divider, captions above."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from vsrprune.data.degradation import bicubic_uint8, degrade
from vsrprune.data.video.colour import RgbFrame
from vsrprune.data.video.footage import Footage, TimedFrame
from vsrprune.data.video.writing import FrameWriter, choose_encoding, open_writer
from vsrprune.errors import UserError, one_of
from vsrprune.host.allocator import keep_freed_memory
from vsrprune.host.machine import measuring
from vsrprune.host.progress import StageProgress
from vsrprune.metrics.cost import network_cost
from vsrprune.metrics.latency import compare_latency
from vsrprune.metrics.quality import SSIM_WINDOW, frame_quality
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.basicvsr.spec import RGB
from vsrprune.networks.fast.device_operations import timed_size
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.network import Network
from vsrprune.results.result import RESULT, Result
from vsrprune.use.load import load_trained
from vsrprune.use.overlap import read_ahead, write_behind
from vsrprune.use.panes import (
    GAP,
    LAYOUTS,
    caption_height,
    caption_of,
    captioned,
    divided,
    divider_at,
    in_a_row,
    row_width,
    text_size,
)
from vsrprune.use.streaming import Pieces, upscaled_frames
from vsrprune.use.transfer import from_device, to_8_bits, to_device, to_host_memory
from vsrprune.use.upscaling import (
    USUAL_PRECISION,
    UpscalingRequest,
    check_request,
    check_target,
    device_named,
    fastest_for,
    footage_of,
    name_of,
    within_memory,
)

BICUBIC, DENSE = "bicubic", "dense"  # what may stand for a model: no network; the dense one of the first job
MOST_MODELS = 4
LONGEST_SIDE = 16384  # pixels: what libx264 and libvpx take
TIMED_FRAMES, REPEATS = 3, 5


@dataclass(frozen=True)
class CompareRequest:
    """What is put beside what.

    video: source, target and how. models: `bicubic`, `dense` or what `load_trained` takes, in
    the order in which they are shown; a single one is compared with bicubic. layout: in LAYOUTS. as_truth: shrink the
    source by the networks' scale, enlarge that, and compare with the source.
    """

    video: UpscalingRequest
    models: tuple[str, ...]
    layout: str = LAYOUTS[0]
    as_truth: bool = False


@dataclass
class Pane:
    """What is shown in one place, and what is known of it.

    network: None for bicubic. giga_macs: per input frame, without the flow net. ms: per frame of the size that was
    timed, which `where` names if it is not the input's. psnr: of every frame so far, in dB; empty without a truth.
    """

    name: str
    network: Frozen | None = None
    giga_macs: float = 0.0
    ms: float = 0.0
    where: str = ""
    psnr: list[float] = field(default_factory=list)

    def outputs(self, frames: Iterable[Tensor], pieces: Pieces, scale: int) -> Iterator[Tensor]:
        """Frames (1, 3, H, W), RGB in [0, 1], to 8-bit frames that are larger by `scale`, one for one."""
        if self.network is not None:
            finish = to_8_bits_on_host if pieces.tile else to_8_bits
            yield from upscaled_frames(self.network, frames, pieces, finish)
            return
        for low_NCHW in frames:
            yield bicubic_uint8(to_8_bits(low_NCHW).cpu(), float(scale))

    def facts(self, psnr: float | None) -> tuple[str, ...]:
        """Its cost and a PSNR in words, from the longest form to the shortest."""
        cost = ("", "")
        if self.network is not None:
            cost = (
                f"{self.giga_macs:.3g} GMACs, {self.ms:.3g} ms{self.where}",
                f"{self.giga_macs:.3g} G, {self.ms:.3g} ms",
            )
        quality = ("", "") if psnr is None else (f"PSNR {psnr:.2f} dB", f"{psnr:.2f} dB")
        return tuple(", ".join(filter(None, words)) for words in zip(cost, quality, strict=True))

    def caption(self, width: int, size: int, right: bool = False) -> RgbFrame:
        """Its caption for the newest frame."""
        return caption_of(self.name, self.facts(self.psnr[-1] if self.psnr else None), width, size, right)


def to_8_bits_on_host(high_NCHW: Tensor) -> Tensor:
    """`to_8_bits`, and then off the device, whose memory is short where tiles are asked for."""
    return to_8_bits(high_NCHW).cpu()


def write_comparison(request: CompareRequest, say: Callable[[str], None]) -> None:
    """Write the video; raises UserError for anything that cannot be, as far as possible before any work starts."""
    video = request.video
    models = checked_models(request)
    check_request(video)
    encoding = choose_encoding(video.target, video.codec, video.crf)
    check_target(video)
    footage = footage_of(video)
    networks = _loaded(request, models, say)
    scale = next(iter(networks.values())).arguments.scale
    protocol = _truth(models, scale) if request.as_truth else None
    clip = Input(footage, scale, protocol)
    size = _size_of(request, clip, len(models))
    device, names = device_named(video.device), names_of(models)
    say(
        f"{video.source}: {footage.width}x{footage.height}, {footage.frames} frames, to {size[1]}x{size[0]}:"
        f" {', '.join(names.values())} on {name_of(device)}"
    )
    for note in footage.notes:
        say(f"note: {note}")
    keep_freed_memory()
    if video.threads:
        torch.set_num_threads(video.threads)
    precision = video.precision or USUAL_PRECISION[device.type]
    with (
        within_memory(video.pieces),
        tf32(precision != "32"),
        open_writer(video.target, encoding, footage, size, say) as writer,
    ):
        panes = _panes(names, networks, clip, video.pieces, precision, device)
        started = time.monotonic()
        frames = _write_all(request, clip, panes, device, writer)
    seconds = time.monotonic() - started
    for pane in panes:
        say(f"{pane.name}: {pane.facts(fmean(pane.psnr) if pane.psnr else None)[0] or 'no network'}")
    say(f"{video.target}: {frames} frames in {seconds:.1f} s, {frames / seconds:.2f} frames per second")


def checked_models(request: CompareRequest) -> tuple[str, ...]:
    """The models to show, at least two. Raises UserError for too many, too few, and for one that is given twice."""
    models = request.models if len(request.models) > 1 else (BICUBIC, *request.models)
    one_of("--layout", request.layout, LAYOUTS)
    if len(models) > MOST_MODELS:
        raise UserError(f"--compare takes up to {MOST_MODELS} models; got {len(models)}")
    for model in models:
        if models.count(model) > 1:
            raise UserError(f"--compare: {model} is given twice; leave one out")
    if not networks_in(models):
        raise UserError(f"--compare {' '.join(models)}: name at least one job's folder or network")
    if request.layout == "divider" and len(models) != 2:
        raise UserError(f"--layout divider shows two models; got {len(models)} ({', '.join(models)})")
    return models


def networks_in(models: Sequence[str]) -> list[Path]:
    """Those that are paths."""
    return [Path(model) for model in models if model not in (BICUBIC, DENSE)]


def names_of(models: Sequence[str]) -> dict[str, str]:
    """Short names by model: the ends of their paths, as many folders as it takes to tell them apart."""
    parts = {model: (model,) if model in (BICUBIC, DENSE) else Path(model).absolute().parts for model in models}
    for depth in range(1, max(map(len, parts.values()))):
        names = {model: "/".join(part[-depth:]) for model, part in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {model: model for model in models}


@dataclass(frozen=True)
class Truth:
    """How inputs are made of a truth, and how outputs are compared with it."""

    degradation: str = "bicubic"
    channel: str = "rgb"
    crop: int = 0


def _truth(models: Sequence[str], scale: int) -> Truth:
    """That of the jobs among the models. Raises UserError where it differs between them, and at scale 1."""
    if scale == 1:
        raise UserError("--truth shrinks the source by the networks' scale, which is 1; leave it out")
    jobs = [path for path in networks_in(models) if (path / RESULT).is_file()]
    found = {}
    for job in jobs:
        data = Result.load(job).knobs["data"]
        found[job] = Truth(data["degradation"], data["channel"], data["crop"])
    for job, protocol in found.items():
        if protocol != found[jobs[0]]:
            raise UserError(f"--truth: {jobs[0]} and {job} differ in degradation, channel or crop; leave one out")
    return found[jobs[0]] if jobs else Truth()


def _loaded(request: CompareRequest, models: Sequence[str], say: Callable[[str], None]) -> dict[str, Network]:
    """The networks by model. Raises UserError if one is missing, or if their scales differ."""

    def load(source: Path, which: str) -> Network:
        return load_trained(source, request.video.store, lambda text: say(f"warning: {text}"), which)

    jobs = [path for path in networks_in(models) if (path / RESULT).is_file()]
    if DENSE in models and not jobs:
        raise UserError(f"--compare {DENSE} is the dense network of a job; name a job's folder beside it")
    networks = {
        model: load(jobs[0], "dense") if model == DENSE else load(Path(model), request.video.which)
        for model in models
        if model != BICUBIC
    }
    (first, *_), scales = networks, {model: network.arguments.scale for model, network in networks.items()}
    for model, scale in scales.items():
        if scale != scales[first]:
            raise UserError(f"--compare: {first} enlarges {scales[first]} times, but {model} {scale} times")
    return networks


@dataclass(frozen=True)
class Input:
    """The footage, and what networks are shown of it: itself, or what `protocol` makes of it as the truth."""

    footage: Footage
    scale: int
    protocol: Truth | None

    @property
    def low_size(self) -> tuple[int, int]:
        """Height and width of the inputs."""
        shrink = self.scale if self.protocol else 1
        return self.footage.height // shrink, self.footage.width // shrink

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the outputs."""
        return self.low_size[0] * self.scale, self.low_size[1] * self.scale

    def frames(self) -> Generator[tuple[RgbFrame, RgbFrame | None, int], None, None]:
        """Inputs with their truth, if there is one, and their time in ticks."""
        with_truth, (height, width) = self.protocol, self.size
        for pixels_HW3, pts in self.footage.read():
            if with_truth is None:
                yield pixels_HW3, None, pts
                continue
            truth_HW3 = pixels_HW3[:height, :width].copy()
            low_NCHW = degrade(_as_clip(truth_HW3), self.scale, with_truth.degradation)
            yield low_NCHW[0].permute(1, 2, 0).contiguous().numpy(), truth_HW3, pts


def _size_of(request: CompareRequest, clip: Input, panes: int) -> tuple[int, int]:
    """Height and width of the pictures. Raises UserError where they are too large or too small."""
    height, width = clip.size
    least = SSIM_WINDOW + 2 * clip.protocol.crop if clip.protocol else 1
    if min(height, width) < least:
        raise UserError(
            f"{request.video.source}: {clip.footage.width}x{clip.footage.height} is too small to be shrunk by"
            f" {clip.scale} and compared"
        )
    across = row_width(width, panes) if request.layout == "side" else width
    size = height + caption_height(text_size(width)), across
    if max(size) > LONGEST_SIDE:
        raise UserError(
            f"{panes} panes of {width}x{height} make {size[1]}x{size[0]}, but encoders take {LONGEST_SIDE} pixels a"
            " side; give fewer models, --layout divider or a smaller video"
        )
    return size


def _panes(
    names: dict[str, str],
    networks: dict[str, Network],
    clip: Input,
    pieces: Pieces,
    precision: str,
    device: torch.device,
) -> list[Pane]:
    """The panes in order, their networks in their fastest form and timed in turns."""
    low_size = clip.low_size
    footage = replace(clip.footage, height=low_size[0], width=low_size[1])
    # Times of whole films, and on a CPU of large frames, would take minutes.
    size = timed_size(low_size, device)
    macs = {model: network_cost(network, low_size).macs for model, network in networks.items()}
    frozen = {model: fastest_for(network.to(device), footage, pieces, precision) for model, network in networks.items()}
    with measuring():
        times = compare_latency(frozen, torch.rand(1, TIMED_FRAMES, RGB, *size, device=device), REPEATS)
    where = "" if size == low_size else f" at {size[1]}x{size[0]}"
    return [
        Pane(name, frozen[model], macs[model] / 1e9, times[model].ms, where) if model in frozen else Pane(name)
        for model, name in names.items()
    ]


def _write_all(
    request: CompareRequest, clip: Input, panes: Sequence[Pane], device: torch.device, writer: FrameWriter
) -> int:
    """Every frame through every network, in step; how many there were.

    Networks that read ahead do so in the same frames: no more are held than the widest window reads.
    """
    beside: deque[tuple[RgbFrame | None, int]] = deque()  # truth and time of frames that are not yet written
    written = itertools.count(1)

    def read() -> Generator[tuple[Tensor, RgbFrame | None, int], None, None]:
        for pixels_HW3, truth_HW3, pts in clip.frames():
            yield to_host_memory(pixels_HW3, device), truth_HW3, pts

    def arriving(waiting: Iterable[tuple[Tensor, RgbFrame | None, int]]) -> Iterator[Tensor]:
        for pixels_HW3, truth_HW3, pts in waiting:
            beside.append((truth_HW3, pts))
            yield to_device(pixels_HW3, device)

    def put_down(done: tuple[list[Callable[[], RgbFrame]], RgbFrame | None, int]) -> None:
        finished, truth_HW3, pts = done
        pictures_HW3 = [pixels() for pixels in finished]
        if truth_HW3 is not None and clip.protocol is not None:
            _compare_with(truth_HW3, pictures_HW3, panes, clip.protocol)
        seconds = float(pts * clip.footage.time_base)
        writer.write(TimedFrame(picture_of(panes, pictures_HW3, request.layout, seconds), pts))
        progress.update(min(next(written), clip.footage.frames))

    with (
        StageProgress("compare", clip.footage.frames) as progress,
        read_ahead(read()) as waiting,
        write_behind(put_down) as hand_on,
    ):
        inputs = itertools.tee(arriving(waiting), len(panes))
        outputs = [
            pane.outputs(frames, request.video.pieces, clip.scale) for pane, frames in zip(panes, inputs, strict=True)
        ]
        del inputs  # they would hold all frames
        for high in zip(*outputs, strict=True):
            hand_on(([from_device(high_NCHW) for high_NCHW in high], *beside.popleft()))
    return next(written) - 1


def _compare_with(
    truth_HW3: RgbFrame, pictures_HW3: Sequence[RgbFrame], panes: Sequence[Pane], protocol: Truth
) -> None:
    truth_NCHW = _as_clip(truth_HW3)
    for pane, picture_HW3 in zip(panes, pictures_HW3, strict=True):
        quality = frame_quality(_as_clip(picture_HW3), truth_NCHW, protocol.channel, protocol.crop)
        pane.psnr += quality.psnr


def picture_of(panes: Sequence[Pane], pictures_HW3: Sequence[RgbFrame], layout: str, seconds: float) -> RgbFrame:
    """A frame of the video: the panes' pictures at a time, under their captions."""
    width = pictures_HW3[0].shape[1]
    size = text_size(width)
    if layout == "side":
        return captioned(in_a_row(pictures_HW3), [pane.caption(width, size) for pane in panes])
    left, right = pictures_HW3
    captions = [pane.caption((width - GAP) // 2, size, right=index == 1) for index, pane in enumerate(panes)]
    return captioned(divided(left, right, divider_at(seconds, width)), captions)


def _as_clip(pixels_HW3: RgbFrame) -> Tensor:
    return to_host_memory(pixels_HW3, torch.device("cpu")).permute(2, 0, 1)[None]
