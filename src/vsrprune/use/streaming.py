"""Super-resolve frames as they come, in memory that does not grow with their number.

The forward branch is carried from frame to frame, so it is exact at any length. The backward branch, of bidirectional
networks, would have to begin at the last frame: it begins `overlap` frames after the window that it serves, and what it
says about those is thrown away. Networks of other kinds read frames on both sides of a window. Tiles are
super-resolved one after the other, each with branches of its own.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from vsrprune.networks.fast.frozen import Carried

Range = tuple[int, int]  # from, up to and without


class Windowed(Protocol):
    """What restores a video window by window: a frozen network (`networks.fast.frozen.Frozen`), or one in an engine."""

    arguments: Any

    def restore_window(self, frames: Sequence[Tensor], own: range, before: Carried) -> Iterator[tuple[Tensor, Carried]]:
        """See `Frozen`."""


@dataclass(frozen=True)
class Pieces:
    """How a video is divided.

    `window` is the number of frames that are super-resolved at a time, `overlap` that of the frames after them which
    the backward branch also reads. `tile` is the longest side of a tile, 0 for whole frames, and `tile_overlap` the
    number of pixels around it that it also reads.
    """

    window: int
    overlap: int
    tile: int = 0
    tile_overlap: int = 0


@dataclass(frozen=True)
class Tile:
    """A tile fills the rows and columns `kept` of the low-resolution frame, and sees those in `read`."""

    kept: tuple[Range, Range]
    read: tuple[Range, Range]

    def crop(self, frame_NCHW: Tensor) -> Tensor:
        """What the tile reads of a frame."""
        (top, bottom), (left, right) = self.read
        return frame_NCHW[..., top:bottom, left:right].contiguous()

    def own(self, high_NCHW: Tensor, scale: int) -> Tensor:
        """What is kept of the super-resolved tile."""
        (top, bottom), (left, right) = (
            ((start - first) * scale, (stop - first) * scale)
            for (start, stop), (first, _) in zip(self.kept, self.read, strict=True)
        )
        return high_NCHW[..., top:bottom, left:right]


def tiles(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Tiles of nearly one size, none longer than `tile` (0: one tile), that together fill a frame."""
    grid = itertools.product(_spans(height, tile, overlap), _spans(width, tile, overlap))
    return [Tile((rows, columns), (read_rows, read_columns)) for (rows, read_rows), (columns, read_columns) in grid]


def _spans(length: int, tile: int, overlap: int) -> list[tuple[Range, Range]]:
    # As few tiles as needed, of nearly equal size: a last tile of a few pixels would be mostly overlap.
    count = -(-length // tile) if tile else 1
    edges = [length * index // count for index in range(count + 1)]
    return [
        ((start, stop), (max(0, start - overlap), min(length, stop + overlap)))
        for start, stop in itertools.pairwise(edges)
    ]


def upscaled_frames(
    network: Windowed,
    frames: Iterable[Tensor],
    pieces: Pieces,
    finish: Callable[[Tensor], Tensor] = lambda high_NCHW: high_NCHW,
) -> Iterator[Tensor]:
    """Frames (1, 3, H, W), RGB in [0, 1], to frames (1, 3, scale*H, scale*W), one for one and in order.

    `finish` is called with every super-resolved tile (1, 3, h, w) before its window is put together, to round to 8 bits
    for instance; its result has the same shape, and is what is held of a window.
    """
    scale, span = network.arguments.scale, span_of(network, pieces)
    places: list[_Place] = []
    for frames_read, own in _windows(frames, span):
        if not places:
            # The size is known from the first frame on, and holds for the whole video.
            height, width = frames_read[0].shape[-2:]
            layout = tiles(height, width, pieces.tile, pieces.tile_overlap)
            places = [_Place(tile) for tile in layout]
        parts = [place.restored(network, frames_read, own, finish) for place in places]
        # Whole frames are handed on as they come; only tiles have to wait for the others of their frame.
        if len(parts) == 1:
            yield from parts[0]
            continue
        for high in zip(*[list(part) for part in parts], strict=True):  # lists: one tile after the other
            yield _together(high, layout, scale)


@dataclass(frozen=True)
class Span:
    """`window` frames are restored at a time; `before` and `after` count the frames around them that are read too."""

    window: int
    before: int
    after: int


def span_of(network: Windowed, pieces: Pieces) -> Span:
    """How a network goes through a video.

    Where nothing around a frame is read, windows would only delay its output: one frame at a time. A network of known
    reach reads just that far, which is exact; others read the overlap. What is handed on from frame to frame replaces
    the frames before a window.
    """
    arguments = network.arguments
    before, after = (pieces.overlap if side is None else side for side in arguments.reach)
    # The state stands for everything before the window, exactly.
    before = 0 if arguments.hands_on_state else before
    alone = before == 0 and arguments.reach[1] == 0
    return Span(1 if alone else pieces.window, before, after)


def _windows(frames: Iterable[Tensor], span: Span) -> Iterator[tuple[list[Tensor], range]]:
    """Frames of a window with those around it, and the places of those that are the window's own."""
    held: deque[Tensor] = deque()
    past = 0

    def done(length: int) -> int:
        """Forget what no later window reads; how many frames before the next one are left."""
        left = min(span.before, past + length)
        for _ in range(past + length - left):
            held.popleft()
        return left

    for frame in frames:
        held.append(frame)
        if len(held) == past + span.window + span.after:
            yield list(held), range(past, past + span.window)
            past = done(span.window)
    # The video is over: its last frames make windows with nothing after them.
    while len(held) > past:
        length = min(span.window, len(held) - past)
        yield list(held), range(past, past + length)
        past = done(length)


@dataclass
class _Place:
    """A tile through the windows of a video: where its network stands."""

    tile: Tile
    moment: Carried = None

    def restored(
        self, network: Windowed, frames: Sequence[Tensor], own: range, finish: Callable[[Tensor], Tensor]
    ) -> Iterator[Tensor]:
        """The tile's own pixels of a window's own frames."""
        frames = [self.tile.crop(frame) for frame in frames]
        for high_NCHW, moment in network.restore_window(frames, own, self.moment):
            self.moment = moment
            # A copy of the tile's own pixels: a view would keep the overlap in memory until the window is put together.
            yield finish(self.tile.own(high_NCHW, network.arguments.scale)).contiguous()


def _together(parts: Sequence[Tensor], layout: Sequence[Tile], scale: int) -> Tensor:
    """Tiles of one frame as the frame."""
    (_, height), (_, width) = layout[-1].kept
    whole_NCHW = parts[0].new_empty(*parts[0].shape[:2], height * scale, width * scale)
    for part_NCHW, tile in zip(parts, layout, strict=True):
        (top, _), (left, _) = tile.kept
        high, wide = part_NCHW.shape[-2:]
        whole_NCHW[..., top * scale : top * scale + high, left * scale : left * scale + wide] = part_NCHW
    return whole_NCHW
