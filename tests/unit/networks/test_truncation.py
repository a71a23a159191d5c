"""Truncated backpropagation through time: outputs stay, and gradients are those of windows that are run one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from vsrprune.cli import preset
from vsrprune.commands import CONF
from vsrprune.networks.basicvsr.network import BasicVSR, in_frame_order, propagation
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.network import Network
from vsrprune.networks.table import build

TINY = sorted(path.stem for path in (CONF / "model").glob("*_tiny.yaml"))
PRESETS = {name: preset(name).arguments for name in TINY}
RECURRENT = [name for name in TINY if PRESETS[name].branches]
FRAMES, WINDOW = 5, 2  # the last window has one frame
ARGUMENTS = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, flow_levels=2, flow_kernel=3, flow_widths=(4,)
)


def network(name: str, window: int = 0) -> Network:
    torch.manual_seed(0)
    made = build(PRESETS[name])
    with torch.no_grad():  # a last convolution near zero would hide gradients
        for parameter in made.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    made.gradient_frames = window
    return made


def clip() -> Tensor:
    return torch.rand(1, FRAMES, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def plain_recurrence(weight: Tensor, window: int, reverse: bool = False) -> list[Tensor]:
    """h_t = weight * h_before + x_t, with x_t = t + 1, from zero, over four frames."""
    holder = Network()
    holder.gradient_frames = window
    frames_NTCHW = torch.arange(1.0, 5.0).view(1, 4, 1, 1, 1)

    def step(frame_NCHW: Tensor, state_NCHW: Tensor, flow_N2HW: Tensor | None) -> Tensor:
        return weight * state_NCHW + frame_NCHW

    start_NCHW, flows_NT2HW = torch.zeros(1, 1, 1, 1), torch.zeros(1, 3, 2, 1, 1)
    states = propagation(step, start_NCHW, frames_NTCHW, flows_NT2HW, reverse, holder.handed_on)
    return in_frame_order(states, reverse)


@pytest.mark.parametrize(
    ("window", "reverse", "gradients"),
    [
        # States at weight 2: 1, 4, 11, 26. Whole: dh_t = h_before + 2 dh_before.
        (0, False, [0, 1, 6, 23]),
        (2, False, [0, 1, 4, 11 + 2 * 4]),
        (3, False, [0, 1, 6, 11]),
        (1, False, [0, 1, 4, 11]),
        (4, False, [0, 1, 6, 23]),
        # The other way from the last frame: 4, 11, 24, 49 at frames 3, 2, 1, 0. Windows are those of the clip.
        (0, True, [24 + 2 * (11 + 2 * 4), 11 + 2 * 4, 4, 0]),
        (2, True, [24 + 2 * 11, 11, 4, 0]),
        (3, True, [24 + 2 * (11 + 2 * 4), 11 + 2 * 4, 4, 0]),
    ],
)
def test_gradients_of_a_recurrence_by_hand(window: int, reverse: bool, gradients: list[float]) -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    for state, expected in zip(plain_recurrence(weight, window, reverse), gradients, strict=True):
        got = torch.autograd.grad(state.sum(), weight, retain_graph=True, allow_unused=True)[0]
        assert (0 if got is None else got.item()) == expected


def test_every_recurrent_network_here_can_truncate() -> None:
    assert {name for name in TINY if PRESETS[name].truncates} == set(RECURRENT)
    assert len(RECURRENT) >= 4


@pytest.mark.parametrize("name", RECURRENT)
def test_outputs_do_not_depend_on_windows(name: str) -> None:
    whole, ended = network(name)(clip()), network(name, WINDOW)(clip())
    assert torch.equal(whole.frames_NTCHW, ended.frames_NTCHW)
    assert whole.hidden.keys() == ended.hidden.keys()
    for branch, states in whole.hidden.items():
        assert all(torch.equal(one, other) for one, other in zip(states, ended.hidden[branch], strict=True))


@pytest.mark.parametrize("name", RECURRENT)
def test_gradients_stay_within_windows(name: str) -> None:
    """The flows are given, so that frames of other windows are seen through states alone."""
    reached = {}
    for window in (0, WINDOW):
        made = network(name, window)
        with torch.no_grad():
            flows = made.flows(clip())
        frames_NTCHW = clip().requires_grad_()
        output = made(frames_NTCHW, flows).frames_NTCHW
        for t in range(FRAMES):
            (gradient,) = torch.autograd.grad(output[:, t].square().sum(), frames_NTCHW, retain_graph=True)
            reached[window, t] = {index for index in range(FRAMES) if bool((gradient[:, index] != 0).any())}
    read_directly = 1 if name.startswith("rrn") else 0  # RRN reads the frame before as it is
    backward = PRESETS[name].goes_back
    for t in range(FRAMES):
        first = t // WINDOW * WINDOW
        last = min(first + WINDOW, FRAMES) - 1 if backward else t
        assert reached[WINDOW, t] == set(range(max(0, first - read_directly), last + 1))
        assert reached[0, t] == set(range(FRAMES if backward else t + 1))


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_a_branch_are_the_sums_of_windows_that_are_run_alone(reverse: bool) -> None:
    torch.manual_seed(0)
    made = BasicVSR(ARGUMENTS).double()
    made.gradient_frames = WINDOW
    name = "backward" if reverse else "forward"
    trunk = made.get_submodule(f"{name}_trunk")
    frames_NTCHW, flows_NT2HW = clip().double(), torch.randn(1, FRAMES - 1, 2, 16, 16).double()
    parameters = list(trunk.parameters())

    def gradients(states: list[Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(torch.stack(states).square().sum(), parameters))

    whole = gradients(made.hidden_states(frames_NTCHW, dict.fromkeys(("backward", "forward"), flows_NT2HW))[name])
    state_NCHW, sums = torch.zeros(1, 4, 16, 16).double(), [torch.zeros_like(parameter) for parameter in parameters]
    windows = [range(first, min(first + WINDOW, FRAMES)) for first in range(0, FRAMES, WINDOW)]
    before: int | None = None
    for window in windows[::-1] if reverse else windows:
        states = []
        state_NCHW = state_NCHW.detach()  # a window alone: what it begins with is a constant
        for t in reversed(window) if reverse else window:
            flow_N2HW = None if before is None else flows_NT2HW[:, min(t, before)]
            state_NCHW = trunk.step(frames_NTCHW[:, t], state_NCHW, flow_N2HW)
            states.append(state_NCHW)
            before = t
        sums = [total + part for total, part in zip(sums, gradients(states), strict=True)]
    for got, expected in zip(whole, sums, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_checkpointed_frames_give_the_same_truncated_gradients() -> None:
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        made = BasicVSR(ARGUMENTS).double()
        made.gradient_frames, made.checkpoint_frames = WINDOW, checkpointed
        made(clip().double()).frames_NTCHW.square().mean().backward()
        gradients.append([parameter.grad for parameter in made.parameters()])
    for got, expected in zip(*gradients, strict=True):
        assert (got is None) == (expected is None)
        if got is not None:
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-15)


def test_windows_as_long_as_the_clip_change_no_gradient() -> None:
    gradients = []
    for window in (0, FRAMES):
        made = copy.deepcopy(network(RECURRENT[0], window))
        made(clip()).frames_NTCHW.square().mean().backward()
        gradients.append([parameter.grad for parameter in made.parameters() if parameter.grad is not None])
    assert all(map(torch.equal, *gradients))
