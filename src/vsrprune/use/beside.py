"""One clip three ways: by bicubic, by the dense and by the pruned network of a job, with times and qualities."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vsrprune.data.degradation import bicubic_uint8, degrade
from vsrprune.data.video.footage import Footage, TimedFrame, look_over
from vsrprune.data.video.writing import FrameWriter, choose_encoding, open_writer
from vsrprune.errors import UserError
from vsrprune.host.machine import measuring
from vsrprune.metrics.latency import Latency, compare_latency
from vsrprune.metrics.quality import FrameQuality, frame_quality
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.fast.device_operations import timed_size
from vsrprune.networks.fast.frozen import Frozen
from vsrprune.networks.fast.graphs import Caller
from vsrprune.networks.network import Flows
from vsrprune.results.result import Result
from vsrprune.use.load import load_trained
from vsrprune.use.streaming import Pieces
from vsrprune.use.transfer import to_device, to_host_memory
from vsrprune.use.upscaling import USUAL_RATE, device_named, fastest_for, name_of, side_by_side

NETWORKS = ("dense", "pruned")
TRUTH, VIDEO = "truth", "upscaled.mp4"
SHOWN = 120  # frames of which pictures are kept, and fewer where they would not fit into
PICTURE_BYTES = 2**30
MOST_PIXELS = 2**25  # of an enlarged frame: 8K
TIMED_FRAMES, REPEATS = 3, 5
WHOLE_PIXELS, TILE, TILE_OVERLAP = 640 * 360, 320, 16  # larger inputs are taken in tiles: memory stays bounded
PRECISION = "32"
ASK_AGAIN = 0.2  # seconds

# What is done, how much of it, and of how much. It may raise, which ends the work.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BesideRequest:
    """What is to be compared.

    source: a video, a picture or a folder of pictures. job: a finished job's folder; store: where its networks lie.
    folder: an empty one for what is made. frames: how many of the first are taken, 0 for all. as_truth: shrink the clip
    by the network's scale, enlarge that, and compare with the clip.
    """

    source: Path
    job: Path
    store: str | Path
    folder: Path
    frames: int = 0
    as_truth: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Column:
    """One of the three ways.

    latency: None for bicubic. macs: per frame of 320x180, without the flow net; parameters without it too; 0 for
    bicubic. psnr (dB), ssim: of every frame; empty without a truth.
    """

    latency: Latency | None = None
    macs: int = 0
    parameters: int = 0
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Beside:
    """What was found; pictures lie in the request's folder as KIND/00000.png, the pruned network's video as VIDEO.

    columns: by kind, the baseline first. frames: how many were enlarged; of the first `shown` there are pictures. size,
    low_size, timed_size: height and width in pixels of outputs, inputs, and of the part of the inputs that was timed.
    channel, crop: of PSNR and SSIM. notes: what a reader should know, a sentence each.
    """

    columns: dict[str, Column]
    frames: int
    shown: int
    rate: float
    size: tuple[int, int]
    low_size: tuple[int, int]
    timed_size: tuple[int, int]
    repeats: int
    threads: int
    device: str
    channel: str
    crop: int
    has_truth: bool
    notes: list[str]

    @property
    def speed_up(self) -> float:
        """How many times as fast the pruned network is."""
        dense, pruned = (self.columns[name].latency for name in NETWORKS)
        assert dense is not None
        assert pruned is not None
        return dense.ms / pruned.ms


def put_beside(request: BesideRequest, report: Report) -> Beside:
    """Enlarge a clip three ways. Memory does not grow with its length.

    Raises UserError for what cannot be read, is too large, or is no longer in the store.
    """
    report("reading the clip", 0, 0)
    result = Result.load(request.job)
    clip = _Clip.of(request, result)
    notes = list(clip.footage.notes)
    device = device_named(request.device)
    report("loading both networks", 0, 0)
    networks = {name: load_trained(request.job, request.store, notes.append, name).to(device) for name in NETWORKS}
    columns: dict[str, Column] = {}
    with tf32(False):
        report("choosing the fastest form of both", 0, 0)
        frozen = {
            name: fastest_for(network, clip.low_footage, clip.pieces, PRECISION) for name, network in networks.items()
        }
        del networks
        timed_NTCHW = clip.timed(device)
        times = _timed(frozen, timed_NTCHW, report)
        outputs = _Outputs(request, clip, notes, report)
        columns[result.baseline_name] = outputs.of_bicubic(result.baseline_name)
        for name in NETWORKS:
            made, cost = outputs.of_network(name, frozen[name], device), result.cost[name]
            columns[name] = replace(made, latency=times[name], macs=cost.macs, parameters=cost.parameters)
    return Beside(
        columns=columns,
        frames=outputs.frames,
        shown=min(outputs.frames, clip.shown),
        rate=float(clip.footage.rate),
        size=clip.size,
        low_size=clip.low_size,
        timed_size=(timed_NTCHW.shape[-2], timed_NTCHW.shape[-1]),
        repeats=REPEATS,
        threads=torch.get_num_threads(),
        device=name_of(device),
        channel=clip.channel,
        crop=clip.crop,
        has_truth=request.as_truth,
        notes=notes,
    )


@dataclass(frozen=True)
class _Clip:
    """The footage, and what networks are shown of it."""

    footage: Footage
    scale: int
    as_truth: bool
    degradation: str
    channel: str
    crop: int
    most: int

    @classmethod
    def of(cls, request: BesideRequest, result: Result) -> _Clip:
        """Raises UserError for what cannot be compared, as far as possible before any work starts."""
        footage, scale, data = look_over(request.source, USUAL_RATE), result.scale, result.knobs["data"]
        if request.as_truth and scale == 1:
            raise UserError(
                f"this job's task is {result.knobs['task']['name']}, whose inputs are not made by shrinking; leave the"
                " comparison with the clip as truth out"
            )
        most = min(request.frames or footage.frames, footage.frames)
        clip = cls(footage, scale, request.as_truth, data["degradation"], data["channel"], data["crop"], most)
        if min(clip.low_size) == 0:
            raise UserError(f"{request.source}: {footage.width}x{footage.height} is too small to be shrunk by {scale}")
        if math.prod(clip.size) > MOST_PIXELS:
            raise UserError(
                f"{request.source}: {footage.width}x{footage.height} would become {clip.size[1]}x{clip.size[0]}, more"
                f" than {MOST_PIXELS >> 20} million pixels; give smaller frames, or src/upscale.py with --tile"
            )
        return clip

    @property
    def low_size(self) -> tuple[int, int]:
        """Height and width of the inputs."""
        shrink = self.scale if self.as_truth else 1
        return self.footage.height // shrink, self.footage.width // shrink

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the outputs."""
        return self.low_size[0] * self.scale, self.low_size[1] * self.scale

    @property
    def low_footage(self) -> Footage:
        """The footage as large as inputs are, to choose forms by; its frames are the footage's own."""
        return replace(self.footage, height=self.low_size[0], width=self.low_size[1])

    @property
    def pieces(self) -> Pieces:
        """As src/upscale.py by default, in tiles where whole frames would take much memory."""
        tile = TILE if math.prod(self.low_size) > WHOLE_PIXELS else 0
        return Pieces(window=30, overlap=5, tile=tile, tile_overlap=TILE_OVERLAP)

    @property
    def shown(self) -> int:
        """Of how many frames pictures are kept."""
        return max(1, min(SHOWN, PICTURE_BYTES // (12 * math.prod(self.size))))  # four pictures, three bytes a pixel

    def inputs(self) -> Generator[TimedFrame, None, None]:
        """The frames that networks are shown."""
        with contextlib.closing(self.footage.read()) as frames:
            for pixels_HW3, pts in itertools.islice(frames, self.most):
                if self.as_truth:
                    high_HW3 = to_host_memory(pixels_HW3[: self.size[0], : self.size[1]], torch.device("cpu"))
                    pixels_HW3 = _first(degrade(_clip_of(high_HW3), self.scale, self.degradation)).numpy()
                yield TimedFrame(pixels_HW3, pts)

    def timed(self, device: torch.device) -> Tensor:
        """The middle of the first inputs as a clip (1, T, 3, h, w): times of whole films would take hours."""
        height, width = timed_size(self.low_size, torch.device("cpu"))
        top, left = (self.low_size[0] - height) // 2, (self.low_size[1] - width) // 2
        with contextlib.closing(self.inputs()) as frames:
            first = [
                to_device(to_host_memory(frame.pixels_HW3, device), device)
                for frame in itertools.islice(frames, TIMED_FRAMES)
            ]
        return torch.stack(first, dim=1)[..., top : top + height, left : left + width].contiguous()


class _Heeding:
    """A frozen network that tells of every call, so that a measurement can be ended."""

    def __init__(self, frozen: Frozen, told: Callable[[], None]) -> None:
        self._frozen, self._told = frozen, told

    def __call__(self, frames_NTCHW: Tensor, flows: Flows | None = None) -> Tensor:
        self._told()
        return self._frozen(frames_NTCHW, flows)

    def flows(self, frames_NTCHW: Tensor) -> Flows:
        return self._frozen.flows(frames_NTCHW)


def _timed(frozen: dict[str, Frozen], clip_NTCHW: Tensor, report: Report) -> dict[str, Latency]:
    """Both networks, in turns; a training that runs on this machine pauses meanwhile."""
    # A first call that does not count, then each network twice in every turn: with its flow net, and without.
    total, calls = len(frozen) * (1 + 2 * REPEATS), itertools.count()
    heeding = {
        name: _Heeding(network, lambda: report("timing both in turns", min(next(calls), total), total))
        for name, network in frozen.items()
    }
    with _quiet(report):
        return compare_latency(heeding, clip_NTCHW, REPEATS)


@contextlib.contextmanager
def _quiet(report: Report) -> Iterator[None]:
    """While nobody else computes on this machine; `report` is called while that is waited for, and may end it."""
    held, given_up = Event(), Event()

    def hold() -> None:
        with measuring():
            held.set()
            given_up.wait()

    # A lock that is waited for cannot be given up: a thread waits, and lets it go at once if nobody wants it any more.
    Thread(target=hold, name="quiet", daemon=True).start()
    try:
        while not held.wait(ASK_AGAIN):
            report("waiting for a training on this machine to pause", 0, 0)
        yield
    finally:
        given_up.set()


class _Outputs:
    """Makes pictures, a video and qualities, frame by frame."""

    def __init__(self, request: BesideRequest, clip: _Clip, notes: list[str], report: Report) -> None:
        self._request, self._clip, self._notes, self._report = request, clip, notes, report
        self.frames = 0  # known after the first pass

    def of_bicubic(self, name: str) -> Column:
        """The first pass: it counts the frames, and keeps the pictures of the truth."""
        qualities = []
        with contextlib.closing(self._truths()) as truths, contextlib.closing(self._clip.inputs()) as inputs:
            for frame in inputs:
                low_HW3 = to_host_memory(frame.pixels_HW3, torch.device("cpu"))
                high_HW3 = _first(bicubic_uint8(_clip_of(low_HW3), float(self._clip.scale)))
                truth_HW3 = next(truths, None)
                if truth_HW3 is not None:
                    self._keep(TRUTH, self.frames, truth_HW3)
                qualities.append(self._take(name, self.frames, high_HW3, truth_HW3))
                self.frames += 1
        return _column(qualities)

    def of_network(self, name: str, network: Frozen, device: torch.device) -> Column:
        """What a network makes of the clip; of the pruned one a video too."""
        qualities: list[FrameQuality] = []
        # A window's backward branch goes before its first output, which may be minutes on large frames.
        network.call = _told_before(
            network.call, lambda: self._report(f"enlarging by {name}", len(qualities), self.frames)
        )
        with contextlib.closing(self._truths()) as truths, self._writer(name) as writer:

            def write(frame: TimedFrame) -> None:
                high_HW3 = torch.from_numpy(frame.pixels_HW3)
                qualities.append(self._take(name, len(qualities), high_HW3, next(truths, None)))
                if writer is not None:
                    writer.write(frame)

            side_by_side(network, self._clip.inputs(), self._clip.pieces, device, write)
        return _column(qualities)

    @contextlib.contextmanager
    def _writer(self, name: str) -> Iterator[FrameWriter | None]:
        if name != "pruned":
            yield None
            return
        target, footage = self._request.folder / VIDEO, self._clip.footage
        if self.frames < footage.frames:
            silent = ", and no sound" if footage.is_video else ""
            self._notes.append(f"the video to download has the first {self.frames} frames{silent}")
            footage = replace(footage, is_video=False, frames=self.frames, end=self._end())
        encoding = choose_encoding(target, None, None)
        with open_writer(target, encoding, footage, self._clip.size, self._say) as writer:
            yield writer

    def _end(self) -> int:
        """When the last frame that is taken ends, in ticks: where the next one begins."""
        with contextlib.closing(self._clip.footage.read()) as frames:
            following = next(itertools.islice(frames, self.frames, None), None)
        return self._clip.footage.end if following is None else following.pts

    def _say(self, text: str) -> None:
        self._notes.append(text.removeprefix("note: "))

    def _truths(self) -> Generator[Tensor, None, None]:
        """The frames that outputs are compared with; none without a truth."""
        if not self._clip.as_truth:
            return
        height, width = self._clip.size
        with contextlib.closing(self._clip.footage.read()) as frames:
            for pixels_HW3, _ in frames:
                yield to_host_memory(pixels_HW3[:height, :width], torch.device("cpu"))

    def _take(self, name: str, index: int, high_HW3: Tensor, truth_HW3: Tensor | None) -> FrameQuality:
        """Keep the picture of a frame; its quality, which is empty without a truth."""
        self._report(f"enlarging by {name}", index, self.frames if index < self.frames else self._clip.most)
        self._keep(name, index, high_HW3)
        if truth_HW3 is None:
            return FrameQuality([], [])
        return frame_quality(_clip_of(high_HW3), _clip_of(truth_HW3), self._clip.channel, self._clip.crop)

    def _keep(self, name: str, index: int, high_HW3: Tensor) -> None:
        if index < self._clip.shown:
            path = self._request.folder / name / f"{index:05d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(high_HW3.numpy()).save(path, compress_level=1)


def _told_before(call: Caller, told: Callable[[], None]) -> Caller:
    """`call`, before which `told` is called; it may raise."""

    def called(function: Callable[..., Any], *inputs: Any) -> Any:
        told()
        return call(function, *inputs)

    return called


def _clip_of(pixels_HW3: Tensor) -> Tensor:
    """A frame as a clip (1, 3, H, W)."""
    return pixels_HW3.permute(2, 0, 1)[None]


def _first(frames_TCHW: Tensor) -> Tensor:
    return frames_TCHW[0].permute(1, 2, 0).contiguous()


def _column(qualities: Sequence[FrameQuality]) -> Column:
    return Column(
        psnr=[value for quality in qualities for value in quality.psnr],
        ssim=[value for quality in qualities for value in quality.ssim],
    )
