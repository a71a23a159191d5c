"""Super-resolve frames as they come, in memory that does not grow with their number.

The forward branch is carried from frame to frame, so it is exact at any length. The backward branch, of bidirectional
networks, would have to begin at the last frame: it begins `overlap` frames after the window that it serves, and what it
says about those is thrown away. Tiles are super-resolved one after the other, each with branches of its own.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from vsrprune.models.frozen import FrozenBasicVSR, Moment


@dataclass(frozen=True)
class Pieces:
    """How a video is divided.

    window, overlap: frames that are super-resolved at a time, and those after them that the backward branch also reads.
    tile, tile_overlap: the longest side of a tile, and the pixels around it that it also reads; 0 for whole frames.
    """

    window: int
    overlap: int
    tile: int = 0
    tile_overlap: int = 0


@dataclass(frozen=True)
class Tile:
    """kept: the rows and columns of the low-resolution frame that a tile fills. read: those that it sees."""

    kept: tuple[slice, slice]
    read: tuple[slice, slice]

    def crop(self, frame_NCHW: Tensor) -> Tensor:
        """What the tile reads of a frame."""
        return frame_NCHW[..., self.read[0], self.read[1]].contiguous()

    def own(self, high_NCHW: Tensor, scale: int) -> Tensor:
        """What is kept of the super-resolved tile."""
        rows, columns = (
            slice((kept.start - read.start) * scale, (kept.stop - read.start) * scale)
            for kept, read in zip(self.kept, self.read, strict=True)
        )
        return high_NCHW[..., rows, columns]


def tiles(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Tiles of nearly one size, none longer than `tile` (0: one tile), that together fill a frame."""
    grid = itertools.product(_spans(height, tile, overlap), _spans(width, tile, overlap))
    return [Tile((rows, columns), (read_rows, read_columns)) for (rows, read_rows), (columns, read_columns) in grid]


def _spans(length: int, tile: int, overlap: int) -> list[tuple[slice, slice]]:
    count = -(-length // tile) if tile else 1
    edges = [length * index // count for index in range(count + 1)]
    return [
        (slice(start, stop), slice(max(0, start - overlap), min(length, stop + overlap)))
        for start, stop in itertools.pairwise(edges)
    ]


def super_resolve(
    network: FrozenBasicVSR,
    frames: Iterable[Tensor],
    pieces: Pieces,
    finish: Callable[[Tensor], Tensor] = lambda high_NCHW: high_NCHW,
) -> Iterator[Tensor]:
    """Frames (1, 3, H, W), RGB in [0, 1], to frames (1, 3, scale*H, scale*W), one for one and in order.

    finish: what becomes of a super-resolved tile (1, 3, h, w) before its window is put together, rounding to 8 bits for
    instance; its result has the same shape, and is what is held of a window.
    """
    bidirectional, scale = network.arguments.bidirectional, network.arguments.scale
    # Nothing looks ahead in a unidirectional network: windows would only delay its frames.
    window, overlap = (pieces.window, pieces.overlap) if bidirectional else (1, 0)
    carried: dict[int, Moment] = {}
    for frames_read, length in _windows(frames, window, overlap):
        height, width = frames_read[0].shape[-2:]
        layout = tiles(height, width, pieces.tile, pieces.tile_overlap)
        parts: list[list[Tensor]] = []
        for index, tile in enumerate(layout):
            cropped = [tile.crop(frame_NCHW) for frame_NCHW in frames_read]
            outputs, carried[index] = _window(network, cropped, length, carried.get(index), tile, finish)
            parts.append(outputs)
        for high in zip(*parts, strict=True):
            yield high[0] if len(layout) == 1 else _together(high, layout, scale)


def _windows(frames: Iterable[Tensor], window: int, overlap: int) -> Iterator[tuple[list[Tensor], int]]:
    """Frames of a window with those that follow it, and how many of them are the window's own."""
    held: deque[Tensor] = deque()
    for frame in frames:
        held.append(frame)
        if len(held) == window + overlap:
            yield list(held), window
            for _ in range(window):
                held.popleft()
    while held:
        yield list(held), min(window, len(held))
        for _ in range(min(window, len(held))):
            held.popleft()


def _window(
    network: FrozenBasicVSR,
    frames: Sequence[Tensor],
    length: int,
    before: Moment | None,
    tile: Tile,
    finish: Callable[[Tensor], Tensor],
) -> tuple[list[Tensor], Moment]:
    """The first `length` frames super-resolved, and where the forward branch stands after them."""
    backward: list[Tensor] = []
    if network.arguments.bidirectional:
        behind: Moment | None = None
        for t in reversed(range(len(frames))):
            behind = network.advance("backward", frames[t], behind)
            if t < length:
                backward.append(behind.state_NCHW)
    outputs = []
    for frame_NCHW in frames[:length]:
        before = network.advance("forward", frame_NCHW, before)
        states = [backward.pop(), before.state_NCHW] if backward else [before.state_NCHW]
        high_NCHW = network.upsample(states, frame_NCHW)
        outputs.append(finish(tile.own(high_NCHW, network.arguments.scale)).contiguous())
    assert before is not None  # a window has frames
    return outputs, before


def _together(parts: Sequence[Tensor], layout: Sequence[Tile], scale: int) -> Tensor:
    """Tiles of one frame as the frame."""
    rows, columns = layout[-1].kept
    whole_NCHW = parts[0].new_empty(*parts[0].shape[:2], rows.stop * scale, columns.stop * scale)
    for part_NCHW, tile in zip(parts, layout, strict=True):
        top, left = (kept.start * scale for kept in tile.kept)
        whole_NCHW[..., top : top + part_NCHW.shape[-2], left : left + part_NCHW.shape[-1]] = part_NCHW
    return whole_NCHW
