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
from functools import partial

import torch
from torch import Tensor

from vsrprune.networks.basicvsr.frozen import FrozenBasicVSR, Moment
from vsrprune.networks.fast.freezing import Frozen, FrozenNetwork, FrozenOnline

Range = tuple[int, int]  # from, up to and without


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
    count = -(-length // tile) if tile else 1
    edges = [length * index // count for index in range(count + 1)]
    return [
        ((start, stop), (max(0, start - overlap), min(length, stop + overlap)))
        for start, stop in itertools.pairwise(edges)
    ]


def super_resolve(
    network: Frozen,
    frames: Iterable[Tensor],
    pieces: Pieces,
    finish: Callable[[Tensor], Tensor] = lambda high_NCHW: high_NCHW,
) -> Iterator[Tensor]:
    """Frames (1, 3, H, W), RGB in [0, 1], to frames (1, 3, scale*H, scale*W), one for one and in order.

    finish: what becomes of a super-resolved tile (1, 3, h, w) before its window is put together, rounding to 8 bits for
    instance; its result has the same shape, and is what is held of a window.
    """
    scale, span = network.arguments.scale, span_of(network, pieces)
    carried: dict[Tile, Moment] = {}
    for frames_read, first, length in _windows(frames, span):
        height, width = frames_read[0].shape[-2:]
        layout = tiles(height, width, pieces.tile, pieces.tile_overlap)
        parts = [
            _finished(network, [tile.crop(frame) for frame in frames_read], first, length, carried, tile, finish)
            for tile in layout
        ]
        if len(parts) == 1:
            yield from parts[0]
            continue
        for high in zip(*[list(part) for part in parts], strict=True):  # lists: one tile after the other
            yield _together(high, layout, scale)


@dataclass(frozen=True)
class Span:
    """window: frames that are restored at a time. before, after: frames around them that are read too."""

    window: int
    before: int
    after: int


def span_of(network: Frozen, pieces: Pieces) -> Span:
    """How a network goes through a video.

    Nothing looks ahead in an online network: windows would only delay its frames. A network of known reach reads just
    that far, which is exact; others read the overlap.
    """
    if isinstance(network, FrozenOnline):
        return Span(1, 0, 0)
    if isinstance(network, FrozenBasicVSR):
        return Span(pieces.window, 0, pieces.overlap) if network.arguments.bidirectional else Span(1, 0, 0)
    assert isinstance(network, FrozenNetwork)
    around = pieces.overlap if network.reach is None else network.reach
    return Span(1 if network.reach == 0 else pieces.window, around, around)


def _windows(frames: Iterable[Tensor], span: Span) -> Iterator[tuple[list[Tensor], int, int]]:
    """Frames of a window with those around it, the place of the first that is the window's own, and their number."""
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
            yield list(held), past, span.window
            past = done(span.window)
    while len(held) > past:
        length = min(span.window, len(held) - past)
        yield list(held), past, length
        past = done(length)


def _finished(
    network: Frozen,
    frames: Sequence[Tensor],
    first: int,
    length: int,
    carried: dict[Tile, Moment],
    tile: Tile,
    finish: Callable[[Tensor], Tensor],
) -> Iterator[Tensor]:
    """A tile's own frames of a window restored; where its forward branch stands after them is put in `carried`."""
    restored: Iterable[Tensor]
    if isinstance(network, FrozenBasicVSR):
        restored = _propagated(network, frames, length, carried, tile)
    elif isinstance(network, FrozenOnline):
        restored = _handed_on(network, frames, carried, tile)
    else:
        restored = network(torch.stack(list(frames), dim=1))[:, first : first + length].unbind(1)
    for high_NCHW in restored:
        yield finish(tile.own(high_NCHW, network.arguments.scale)).contiguous()


def _propagated(
    network: FrozenBasicVSR, frames: Sequence[Tensor], length: int, carried: dict[Tile, Moment], tile: Tile
) -> Iterator[Tensor]:
    """The first `length` frames by BasicVSR."""
    backward: list[Tensor] = []
    if network.arguments.bidirectional:
        behind: Moment | None = None
        for t in reversed(range(len(frames))):
            behind = network.advance("backward", frames[t], behind)
            if t < length:
                backward.append(behind.state_NCHW)
    for frame_NCHW in frames[:length]:
        carried[tile] = network.advance("forward", frame_NCHW, carried.get(tile))
        states = [carried[tile].state_NCHW]
        if backward:
            states.insert(0, backward.pop())
        yield network.upsample(states, frame_NCHW)


def _handed_on(
    network: FrozenOnline, frames: Sequence[Tensor], carried: dict[Tile, Moment], tile: Tile
) -> Iterator[Tensor]:
    """The frames by a network that hands a state from each to the next."""
    for frame_NCHW in frames:
        zeros = partial(frame_NCHW.new_zeros, len(frame_NCHW), network.state_width, *frame_NCHW.shape[-2:])
        before = carried.get(tile) or Moment(frame_NCHW, zeros())
        high_NCHW, state_NCHW = network.step(frame_NCHW, before.frame_NCHW, before.state_NCHW)
        carried[tile] = Moment(frame_NCHW, state_NCHW)
        yield high_NCHW


def _together(parts: Sequence[Tensor], layout: Sequence[Tile], scale: int) -> Tensor:
    """Tiles of one frame as the frame."""
    (_, height), (_, width) = layout[-1].kept
    whole_NCHW = parts[0].new_empty(*parts[0].shape[:2], height * scale, width * scale)
    for part_NCHW, tile in zip(parts, layout, strict=True):
        (top, _), (left, _) = tile.kept
        high, wide = part_NCHW.shape[-2:]
        whole_NCHW[..., top * scale : top * scale + high, left * scale : left * scale + wide] = part_NCHW
    return whole_NCHW
