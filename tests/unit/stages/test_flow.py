"""The flow net by itself: it learns motion and its direction, and leaves the rest of the network as it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clips_made import DEMO
from torch import Tensor

from vsrprune.data.clips import Clip
from vsrprune.errors import PreemptedError
from vsrprune.host.progress import Unshown
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.parts.flow import SPyNet
from vsrprune.networks.table import FAMILIES, build
from vsrprune.results.protocols import Comparison
from vsrprune.stages.flow.module import FlowTraining
from vsrprune.stages.flow.photometric import photometric_error, photometric_errors, shared_shift
from vsrprune.stages.reference.time import flow_photometric, psnr_alone
from vsrprune.stages.training.fit import Hardware, Sampling, Session, fit

ARGUMENTS = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, flow_levels=2, flow_kernel=3, flow_widths=(8, 8)
)
CPU = torch.device("cpu")


def texture(height: int, width: int) -> Tensor:
    """Smooth noise (3, H, W) in [0, 1]."""
    noise = torch.rand(1, 3, height // 3, width // 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)[0]


def moving(dx: int, dy: int, frames: int = 3, side: int = 24) -> Clip:
    """A texture that moves by (dx, dy) pixels of the input from frame to frame."""
    canvas = texture(48, 48)
    corners = [(12 - dy * t, 12 - dx * t) for t in range(frames)]
    low = torch.stack([canvas[:, y : y + side, x : x + side] for y, x in corners])
    low_TCHW = (low * 255).round().to(torch.uint8)
    return Clip(f"{dx},{dy}", low_TCHW.repeat_interleave(4, -1).repeat_interleave(4, -2), low_TCHW)


def trained(
    workdir: Path, clips: Sequence[Clip], steps: int, patch: int = 20, devices: int = 1, on_row: Any = lambda row: None
) -> BasicVSR:
    torch.manual_seed(0)
    module = FlowTraining(BasicVSR(ARGUMENTS), steps, 1e-2, "onecycle")
    workdir.mkdir(exist_ok=True)
    session = Session(workdir, log_every=1, checkpoint_every=2, hardware=Hardware(count=devices), on_row=on_row)
    fit(module, clips, Sampling(batch=2, patch=patch, frames=3, seed=0), session)
    network = module.network
    assert isinstance(network, BasicVSR)
    return network


def flow_of(network: BasicVSR, clip: Clip) -> Tensor:
    """(x, y) from the first frame to the second, mean over the inner pixels."""
    low_TCHW = clip.low_TCHW.float() / 255
    with torch.no_grad():
        flow: Tensor = network.flow_net(low_TCHW[:1], low_TCHW[1:2])[0, :, 6:-6, 6:-6].mean((1, 2))
    return flow


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> BasicVSR:
    """Trained on motions of one pixel to either side, up and down (patches are turned and played backwards too)."""
    return trained(tmp_path_factory.mktemp("shifted"), [moving(1, 0), moving(0, 1)], 300)


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, 1)])
def test_opposite_motions_have_opposite_flows(shifted: BasicVSR, dx: int, dy: int) -> None:
    forth, back = flow_of(shifted, moving(dx, dy)), flow_of(shifted, moving(-dx, -dy))
    motion = torch.tensor([float(dx), float(dy)])
    torch.testing.assert_close(forth, motion, atol=0.3, rtol=0)
    torch.testing.assert_close(back, -motion, atol=0.3, rtol=0)


def test_the_error_falls_on_every_held_out_clip(tmp_path: Path) -> None:
    network = trained(tmp_path, DEMO.train, 250, patch=24)
    for clip in DEMO.val:
        warped, still = photometric_errors(network.flow_net, clip.low_TCHW, CPU)
        assert warped < still, clip.name


def test_only_the_flow_net_moves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before, after = BasicVSR(ARGUMENTS).state_dict(), trained(tmp_path, DEMO.train, 3).state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved
    assert all(name.startswith("flow_net.") for name in moved)


@pytest.mark.parametrize("step", [0, 2])
def test_a_break_changes_nothing(tmp_path: Path, step: int) -> None:
    def ask(row: dict[str, Any]) -> None:
        if row["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = trained(tmp_path / "whole", DEMO.train, 5, patch=8)
    with pytest.raises(PreemptedError):
        trained(tmp_path / "broken", DEMO.train, 5, patch=8, on_row=ask)
    again = trained(tmp_path / "broken", DEMO.train, 5, patch=8).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.state_dict().items())


@pytest.mark.usefixtures("quick_ranks")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", DEMO.train, 3, patch=8).state_dict()
    two = trained(tmp_path / "two", DEMO.train, 3, patch=8, devices=2).state_dict()
    for name, value in one.items():
        # A hundredth of the rate: Adam's first steps turn differences of rounding into parts of a step.
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-4)


# The error


def constant_flow(x: float, y: float) -> SPyNet:
    """A flow net that says (x, y) whatever it sees."""
    flow_net = SPyNet(levels=1, kernel=3, widths=(4,))
    last = flow_net.levels[0][-1]  # type: ignore[index]
    with torch.no_grad():
        last.bias.copy_(torch.tensor([x, y]))
    return flow_net


def test_the_error_of_no_motion_is_the_mean_difference() -> None:
    frames_NTCHW = torch.rand(2, 4, 3, 8, 8)
    expected = (frames_NTCHW[:, 1:] - frames_NTCHW[:, :-1]).abs().mean()
    torch.testing.assert_close(photometric_error(constant_flow(0, 0), frames_NTCHW), expected)


def test_a_flow_is_judged_in_both_directions() -> None:
    """Ramps that move by a pixel: one direction fits but for the border, the other is off by two pixels."""
    ramp = torch.arange(10.0) / 100
    frames_NTCHW = torch.stack((ramp[1:9], ramp[0:8])).view(1, 2, 1, 1, 8).expand(1, 2, 3, 8, 8)
    # The second frame shows at x + 1 what the first shows at x. Forth: 0 but at the border, which is off by 0.01.
    # Back: what should be at x - 1 is fetched from x + 1, 0.02 off, at the border 0.01.
    forth, back = 0.01 / 8, (7 * 0.02 + 0.01) / 8
    error = photometric_error(constant_flow(1, 0), frames_NTCHW).item()
    assert error == pytest.approx((forth + back) / 2, abs=1e-6)


def test_errors_of_a_clip_are_means_over_its_pairs() -> None:
    clip = DEMO.val[0]
    flow_net = constant_flow(0.5, -0.25)
    low_NTCHW = clip.low_TCHW[None].float() / 255
    warped, still = photometric_errors(flow_net, clip.low_TCHW, CPU)
    assert warped == pytest.approx(photometric_error(flow_net, low_NTCHW).item(), abs=1e-6)
    assert still == pytest.approx(float((low_NTCHW[:, 1:] - low_NTCHW[:, :-1]).abs().mean()), abs=1e-6)
    assert photometric_errors(flow_net, clip.low_TCHW[:1], CPU) == (0, 0)


# What time is worth to a network


def bench_of(clips: Sequence[Clip], centre: bool = False) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(comparison=Comparison("rgb", 0, centre)),
        clips=SimpleNamespace(val=clips),
        device=CPU,
        progress=Unshown(),
    )


def test_an_untrained_flow_net_is_as_good_as_no_motion() -> None:
    assert flow_photometric(bench_of(DEMO.val), BasicVSR(ARGUMENTS)) == pytest.approx(1, abs=1e-6)


def test_the_quotient_is_of_sums_over_clips(shifted: BasicVSR) -> None:
    shift_2 = shared_shift(shifted.flow_net, [clip.low_TCHW for clip in DEMO.val], CPU)
    errors = (photometric_errors(shifted.flow_net, clip.low_TCHW, CPU, shift_2) for clip in DEMO.val)
    warped, still = zip(*errors, strict=True)
    assert flow_photometric(bench_of(DEMO.val), shifted) == pytest.approx(sum(warped) / sum(still))


def test_a_shift_that_all_flows_share_says_nothing_of_motion() -> None:
    """A constant flow is no motion, and motion is judged as it is, whatever constant is added to it."""
    network = BasicVSR(ARGUMENTS)
    network.flow_net = constant_flow(0.5, -0.25)
    bench = bench_of([moving(1, 0)])
    assert shared_shift(network.flow_net, [moving(1, 0).low_TCHW], CPU).tolist() == pytest.approx([0.5, -0.25])
    assert flow_photometric(bench, network) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, -0.25)])
def test_motion_is_judged_without_the_shift_of_its_flows(shifted: BasicVSR, shift: tuple[float, float]) -> None:
    class Shifted(torch.nn.Module):
        def forward(self, reference_NCHW: Tensor, supporting_NCHW: Tensor) -> Tensor:
            return shifted.flow_net(reference_NCHW, supporting_NCHW) + torch.tensor(shift)[:, None, None]

    network, bench = BasicVSR(ARGUMENTS), bench_of([moving(1, 0)])
    network.flow_net = Shifted()
    expected = flow_photometric(bench, shifted)
    assert expected is not None
    assert expected < 0.5
    assert flow_photometric(bench, network) == pytest.approx(expected, abs=1e-5)


def test_there_is_no_quotient_where_nothing_moves_or_no_frames_judge() -> None:
    assert flow_photometric(bench_of([moving(0, 0)]), BasicVSR(ARGUMENTS)) is None
    for name in ("edsr", "rrn"):
        assert flow_photometric(bench_of(DEMO.val), build(FAMILIES[name].arguments())) is None


@pytest.mark.parametrize("centre", [False, True])
def test_a_frame_alone_knows_no_other(centre: bool) -> None:
    """On a clip of equal frames the oracle is a clip of one of them."""
    torch.manual_seed(0)
    network = BasicVSR(ARGUMENTS).eval()
    still, single = moving(0, 0), moving(0, 0, frames=1)
    alone = psnr_alone(bench_of([still], centre), network)
    assert alone == pytest.approx(psnr_alone(bench_of([single]), network))
    with torch.no_grad():
        output = network(single.low_TCHW[None].float() / 255).frames_NTCHW[0]
    error = (output.clamp(0, 1) * 255).round() - single.high_TCHW
    assert alone == pytest.approx(float(10 * torch.log10(255**2 / error.square().mean())), abs=1e-4)


def test_a_network_of_single_frames_has_no_gain() -> None:
    assert psnr_alone(bench_of(DEMO.val), build(FAMILIES["edsr"].arguments())) is None
