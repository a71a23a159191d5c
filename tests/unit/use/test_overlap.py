"""Reading, computing and writing side by side: in order, bounded, and ended together by whoever fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from vsrprune.data.video.footage import TimedFrame
from vsrprune.use.overlap import WAITING, read_ahead, write_behind
from vsrprune.use.streaming import Pieces
from vsrprune.use.transfer import from_device, to_8_bits, to_device, to_host_memory
from vsrprune.use.upscaling import side_by_side

CPU = torch.device("cpu")
HANDS = 3  # a frame is in the hands of each of the three threads


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class Doubling:
    """A network that repeats pixels, and counts the windows it was asked for."""

    def __init__(self, reach: tuple[int | None, int | None] = (0, 0)) -> None:
        self.arguments = SimpleNamespace(scale=2, reach=reach, hands_on_state=False)

    def restore_window(self, frames: list[Tensor], own: range, before: None) -> Iterator[tuple[Tensor, None]]:
        for t in own:
            yield frames[t].repeat_interleave(2, -1).repeat_interleave(2, -2), None


def frame(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)


class Traffic:
    """Frames that are read and written, at their own speeds, and the most that were between."""

    def __init__(self, count: int, reading: float = 0.0, writing: float = 0.0) -> None:
        self.count, self.reading, self.writing = count, reading, writing
        self.read_so_far, self.written, self.most = 0, [], 0

    def frames(self) -> Iterator[TimedFrame]:
        for number in range(self.count):
            time.sleep(self.reading)
            self.read_so_far += 1
            self.most = max(self.most, self.read_so_far - len(self.written))
            yield TimedFrame(frame(number), 10 * number)

    def write(self, done: TimedFrame) -> None:
        time.sleep(self.writing)
        self.written.append(done)


@pytest.mark.parametrize("pieces", [Pieces(1, 0), Pieces(1, 0, tile=3, tile_overlap=1)], ids=["whole", "tiled"])
def test_frames_come_out_in_order_with_their_times(pieces: Pieces) -> None:
    traffic = Traffic(20)
    side_by_side(Doubling(), traffic.frames(), pieces, CPU, traffic.write)  # type: ignore[arg-type]
    assert [pts for _, pts in traffic.written] == [10 * number for number in range(20)]
    for number, (pixels, _) in enumerate(traffic.written):
        assert (pixels == frame(number).repeat(2, 0).repeat(2, 1)).all()


@pytest.mark.parametrize(("reading", "writing"), [(0.0, 0.005), (0.005, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize(("reach", "pieces", "read"), [((0, 0), Pieces(9, 9), 1), ((None, None), Pieces(4, 2), 8)])
def test_few_frames_are_in_flight_whoever_is_slow(
    reading: float, writing: float, reach: tuple[int | None, int | None], pieces: Pieces, read: int
) -> None:
    """`read` frames belong to a window and what is around it."""
    traffic = Traffic(60, reading, writing)
    side_by_side(Doubling(reach), traffic.frames(), pieces, CPU, traffic.write)  # type: ignore[arg-type]
    assert len(traffic.written) == 60
    assert traffic.most <= read + 2 * WAITING + HANDS


def test_an_error_of_the_reader_comes_after_the_frames_before_it() -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("the disk is gone")

    taken: list[int] = []
    with read_ahead(source()) as items, pytest.raises(OSError, match="the disk is gone"):
        taken.extend(items)
    assert taken == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("failing", [0, 7, 19])
def test_an_error_of_the_writer_stops_the_reader(failing: int) -> None:
    """Also at the last frame, when everything is handed on already."""
    traffic = Traffic(20)

    def write(done: TimedFrame) -> None:
        if done.pts == 10 * failing:
            raise OSError("the disk is full")
        traffic.write(done)

    with pytest.raises(OSError, match="the disk is full"):
        side_by_side(Doubling(), traffic.frames(), Pieces(1, 0), CPU, write)  # type: ignore[arg-type]
    assert len(traffic.written) == failing
    assert traffic.read_so_far <= failing + 1 + 2 * WAITING + HANDS


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_stops_the_network_stops_all(error: type[BaseException]) -> None:
    class Failing(Doubling):
        def restore_window(self, frames: list[Tensor], own: range, before: None) -> Iterator[tuple[Tensor, None]]:
            if (frames[0] == to_device(torch.from_numpy(frame(11)), CPU)).all():
                raise error
            return super().restore_window(frames, own, before)

    traffic, closed = Traffic(10**9, writing=0.001), []

    def frames() -> Iterator[TimedFrame]:
        try:
            yield from traffic.frames()
        finally:
            closed.append(threading.current_thread().name)

    with pytest.raises(error):
        side_by_side(Failing(), frames(), Pieces(1, 0), CPU, traffic.write)  # type: ignore[arg-type]
    assert len(traffic.written) <= 11
    assert closed == ["reader"]  # which closes the file that it has open


def test_what_waits_is_not_written_after_an_error() -> None:
    written, may_write = [], threading.Event()

    def write(item: int) -> None:
        may_write.wait(10)
        written.append(item)

    def interrupted() -> None:
        with write_behind(write) as hand_on:
            for item in range(WAITING):
                hand_on(item)
            timer.start()
            raise KeyboardInterrupt

    timer = threading.Timer(0.05, may_write.set)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    timer.join()
    assert written in ([], [0])


def test_all_is_written_at_the_end() -> None:
    written = []
    with write_behind(written.append) as hand_on:
        for item in range(50):
            hand_on(item)
    assert written == list(range(50))


def test_eight_bits_there_and_back() -> None:
    """Every level survives, and frames whose memory may not be written are taken without a warning."""
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    levels.flags.writeable = False
    high_NCHW = to_8_bits(to_device(to_host_memory(levels, CPU), CPU))
    assert high_NCHW.shape == (1, 3, 16, 16)
    assert (from_device(high_NCHW)() == levels).all()
    assert to_8_bits(torch.tensor([-0.1, 0.4999 / 255, 0.5001 / 255, 1.2])).tolist() == [0, 0, 1, 255]
