"""Frame by frame is the whole sequence: exactly where nothing looks ahead, nearly where windows cut."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vsrprune.channels.plan import PrunePlan
from vsrprune.networks.basicvsr.frozen import FrozenBasicVSR
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.fast.blocks import Form
from vsrprune.use.streaming import Pieces, tiles, upscaled_frames

WHOLE = Pieces(window=100, overlap=0)


def frozen(bidirectional: bool = True, moving: bool = True, factors: tuple[int, ...] = (2, 2)) -> FrozenBasicVSR:
    """A small network of random weights in float64; with `moving` its flow net finds motion in everything."""
    torch.manual_seed(0)
    arguments = BasicVSRArguments(
        channels=6,
        blocks=1,
        upsampler_channels=4,
        bidirectional=bidirectional,
        upscale_factors=factors,
        flow_levels=2,
        flow_kernel=3,
        flow_widths=(4,),
    )
    network = BasicVSR(arguments)
    compact = network.with_plan(PrunePlan.keep_all("rsc", network.channel_layout("rsc"))).double().eval()
    for name, parameter in compact.named_parameters():
        if not name.startswith("flow_net") or moving:
            torch.nn.init.normal_(parameter, std=0.08)  # more, and states would grow from frame to frame
    return FrozenBasicVSR(compact, lambda shape: Form())


def clip(length: int, height: int = 12, width: int = 14) -> list[Tensor]:
    torch.manual_seed(1)
    return list(torch.rand(length, 1, 3, height, width, dtype=torch.float64))


def streamed(network: FrozenBasicVSR, frames: list[Tensor], pieces: Pieces) -> Tensor:
    return torch.stack(list(upscaled_frames(network, iter(frames), pieces)), dim=1)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_one_window_is_the_network(bidirectional: bool) -> None:
    network, frames = frozen(bidirectional), clip(7)
    expected = network(torch.stack(frames, dim=1))
    torch.testing.assert_close(streamed(network, frames, WHOLE), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_at_scale_1_tiles_and_windows_fill_frames_of_the_same_size(bidirectional: bool) -> None:
    network, frames = frozen(bidirectional, moving=False, factors=()), clip(7)
    expected = network(torch.stack(frames, dim=1))
    assert expected.shape == torch.stack(frames, dim=1).shape
    outputs = streamed(network, frames, Pieces(window=100, overlap=0, tile=7, tile_overlap=30))
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", [1, 3, 100])
def test_a_unidirectional_network_is_exact_whatever_the_window(window: int) -> None:
    network, frames = frozen(bidirectional=False), clip(8)
    outputs = streamed(network, frames, Pieces(window, 0))
    torch.testing.assert_close(outputs, network(torch.stack(frames, dim=1)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [1, 4, 5, 9, 10, 11, 12, 13])
def test_windows_are_exact_where_the_overlap_reaches_the_end(length: int) -> None:
    """Every frame comes once and in order; those of the last window are the whole sequence's."""
    network, frames = frozen(), clip(length)
    outputs, expected = streamed(network, frames, Pieces(4, 2)), network(torch.stack(frames, dim=1))
    assert outputs.shape == expected.shape
    starts = range(0, length, 4)
    last = next(start for start in starts if start + 4 + 2 >= length)
    torch.testing.assert_close(outputs[:, last:], expected[:, last:], rtol=1e-12, atol=1e-12)


def test_the_error_at_a_seam_falls_with_the_overlap() -> None:
    network, frames = frozen(), clip(24)
    expected = network(torch.stack(frames, dim=1))
    errors = [float((streamed(network, frames, Pieces(6, overlap)) - expected).abs().max()) for overlap in (0, 1, 3, 6)]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < errors[0] / 20


@pytest.mark.parametrize("bidirectional", [True, False])
def test_only_a_window_of_frames_is_held(bidirectional: bool) -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def source() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(40):
            frame = torch.rand(1, 3, 6, 6, dtype=torch.float64)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    count = sum(1 for _ in upscaled_frames(frozen(bidirectional), source(), Pieces(5, 2, tile=3, tile_overlap=1)))
    assert count == 40
    assert most <= (5 + 2 + 5 if bidirectional else 1 + 1 + 2)  # a window, and the next being read


@pytest.mark.parametrize("factors", [(2, 2), (3,)])
@pytest.mark.parametrize(("height", "width"), [(40, 52), (41, 53)])
def test_tiles_are_the_whole_frame_where_their_overlap_covers_the_reach(
    factors: tuple[int, ...], height: int, width: int
) -> None:
    """Without motion: 3 pixels per frame and branch (first, conv1, conv2), at most 2 in the upsampler."""
    network, frames = frozen(moving=False, factors=factors), clip(3, height, width)
    whole = streamed(network, frames, WHOLE)
    tiled = streamed(network, frames, Pieces(100, 0, tile=16, tile_overlap=3 * 3 + 3))
    torch.testing.assert_close(tiled, whole, rtol=1e-12, atol=1e-12)
    short = streamed(network, frames, Pieces(100, 0, tile=16, tile_overlap=1))
    assert float((short - whole).abs().max()) > 1e-6


def test_tiles_keep_states_of_their_own_between_windows() -> None:
    network, frames = frozen(bidirectional=False, moving=False), clip(4, 24, 24)
    whole = streamed(network, frames, WHOLE)
    tiled = streamed(network, frames, Pieces(1, 0, tile=8, tile_overlap=15))
    torch.testing.assert_close(tiled, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("height", "width", "tile"), [(10, 10, 0), (10, 10, 10), (11, 7, 5), (3, 100, 32), (1, 1, 8)])
def test_tiles_fill_a_frame_once(height: int, width: int, tile: int) -> None:
    covered = torch.zeros(height, width)
    for one in tiles(height, width, tile, 4):
        (top, bottom), (left, right) = one.kept
        covered[top:bottom, left:right] += 1
        for (start, stop), read, length in zip(one.kept, one.read, (height, width), strict=True):
            assert stop - start <= (tile or length)
            assert read == (max(0, start - 4), min(length, stop + 4))
    assert bool((covered == 1).all())


def test_what_is_finished_is_what_comes_out() -> None:
    network, frames = frozen(), clip(3)

    def rounded(high_NCHW: Tensor) -> Tensor:
        return (high_NCHW.clamp(0, 1) * 255).round().to(torch.uint8)

    outputs = list(upscaled_frames(network, frames, Pieces(2, 1, tile=7, tile_overlap=4), rounded))
    assert {output.dtype for output in outputs} == {torch.uint8}
    assert outputs[0].shape == (1, 3, 48, 56)
