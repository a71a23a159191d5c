"""Losses by hand."""

import pytest
import torch

from vsrprune.channels.plan import PrunePlan
from vsrprune.pruning.gates import zero_cut_gates
from vsrprune.pruning.losses import charbonnier, temporal_loss
from vsrprune.pruning.surgery import compact

FLOOR = 1e-6


def row(*values: float) -> torch.Tensor:
    """A hidden state (1, 1, 1, W)."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def test_charbonnier_by_hand() -> None:
    a, b = row(1.0, -2.0, 0.5, 0.0), row(4.0, 2.0, 0.5, 1e-6)
    expected = (3 + 4 + 1e-6 + 2**0.5 * 1e-6) / 4
    assert charbonnier(a, b).item() == pytest.approx(expected, rel=1e-12)


def test_charbonnier_of_equal_tensors_is_the_floor_and_has_a_gradient() -> None:
    a = row(1.0, 2.0).requires_grad_()
    loss = charbonnier(a, a.detach().clone())
    loss.backward()
    assert loss.item() == pytest.approx(FLOOR, rel=1e-9)
    assert a.grad is not None
    assert torch.equal(a.grad, torch.zeros_like(a))  # a plain root would give NaN here


def test_charbonnier_gradient_is_the_sign_far_from_zero() -> None:
    a = row(3.0, -3.0).requires_grad_()
    charbonnier(a, row(0.0, 0.0)).backward()
    assert a.grad is not None
    assert torch.allclose(a.grad, row(0.5, -0.5), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_tensors_are_compared_in_float32(dtype: torch.dtype) -> None:
    """1e-12 is 0 in fp16, and so is the square of a difference of 1e-4."""
    a = torch.tensor([0.0, 1e-4, 1.0], dtype=dtype).requires_grad_()
    loss = charbonnier(a, torch.tensor([0.0, 0.0, 1.0], dtype=dtype))
    difference = float(a.detach()[1])  # as the type rounds it
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx((difference + 2 * FLOOR) / 3, rel=1e-3)
    loss.backward()
    assert a.grad is not None
    assert a.grad.tolist() == pytest.approx([0.0, 1 / 3, 0.0], rel=5e-3)


def test_temporal_loss_of_two_frames_by_hand() -> None:
    student = {"forward": [row(1, 2), row(0, 0)]}
    teacher = {"forward": [row(1, 5), row(4, 0)]}
    # frame 1: (0 + 3) / 2, frame 2: (4 + 0) / 2, mean 1.75; the teacher's mean |h| is (1 + 5 + 4 + 0) / 4 = 2.5
    loss = temporal_loss(student, teacher, {"forward": None})
    assert loss.item() == pytest.approx(1.75 / 2.5 + FLOOR / 2, rel=1e-6)  # two zeros add the floor a half each


def test_temporal_loss_is_the_mean_over_branches() -> None:
    teacher = {"backward": [row(2.0, 2.0)], "forward": [row(6.0, -6.0)]}
    student = {"backward": [row(1.0, 2.0)], "forward": [row(6.0, 6.0)]}
    # backward: 0.5 in units of 2, forward: 6 in units of 6
    loss = temporal_loss(student, teacher, {"backward": None, "forward": None})
    assert loss.item() == pytest.approx((0.25 + 1) / 2, rel=1e-5)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 40.0])
def test_the_scale_of_all_states_changes_neither_temporal_loss_nor_its_relative_gradient(factor: float) -> None:
    generator = torch.Generator().manual_seed(0)
    states = {branch: [torch.randn(2, 4, 3, 3, generator=generator) for _ in range(2)] for branch in ("a", "b")}
    teacher = {branch: [torch.randn(2, 6, 3, 3, generator=generator) for _ in range(2)] for branch in ("a", "b")}
    kept = dict.fromkeys(states, torch.tensor([0, 2, 3, 5]))

    def loss_and_gradient(scale: float) -> tuple[float, torch.Tensor]:
        student = {branch: [(scale * state).requires_grad_() for state in row] for branch, row in states.items()}
        target = {branch: [scale * state for state in row] for branch, row in teacher.items()}
        loss = temporal_loss(student, target, kept)
        (gradient,) = torch.autograd.grad(loss, [student["a"][0]])
        return loss.item(), scale * gradient  # of the loss by log scale: what a weight before the state sees

    (loss, gradient), (scaled, scaled_gradient) = loss_and_gradient(1.0), loss_and_gradient(factor)
    assert scaled == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(scaled_gradient, gradient, rtol=1e-4, atol=1e-9)


def test_one_branch_s_scale_does_not_weigh_on_the_other() -> None:
    teacher = {"a": [row(1.0, 3.0)], "b": [row(200.0, 600.0)]}
    student = {"a": [row(2.0, 3.0)], "b": [row(400.0, 600.0)]}
    both = temporal_loss(student, teacher, {"a": None, "b": None})
    alone = temporal_loss({"a": student["a"]}, {"a": teacher["a"]}, {"a": None})
    assert both.item() == pytest.approx(alone.item(), rel=1e-6)


def test_a_teacher_whose_states_are_zero_gives_a_finite_loss() -> None:
    state = row(3.0, 0.0).requires_grad_()
    loss = temporal_loss({"forward": [state]}, {"forward": [row(0.0, 0.0)]}, {"forward": None})
    assert loss.item() == pytest.approx(1.5, rel=1e-6)
    loss.backward()
    assert state.grad is not None
    assert torch.isfinite(state.grad).all()


def test_states_of_sixteen_bits_are_compared_in_float32() -> None:
    """Their mean magnitude would be 0 in fp16 otherwise, and a quotient infinite."""
    teacher, student = row(6e-8, 6e-8).half(), row(0.0, 6e-8).half()
    loss = temporal_loss({"forward": [student]}, {"forward": [teacher]}, {"forward": None})
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.5, rel=1e-4)


def test_temporal_loss_of_identical_states_sits_at_the_floor() -> None:
    states = {"backward": [torch.randn(2, 3, 4, 5) for _ in range(3)], "forward": [torch.randn(2, 3, 4, 5)] * 3}
    assert temporal_loss(states, states, {"backward": None, "forward": None}).item() == pytest.approx(FLOOR, rel=1e-5)


def test_aligned_student_is_compared_with_the_kept_channels() -> None:
    teacher = {"forward": [torch.tensor([10.0, 20.0, 30.0, 40.0]).view(1, 4, 1, 1)]}
    student = {"forward": [torch.tensor([10.0, 33.0]).view(1, 2, 1, 1)]}
    assert temporal_loss(student, teacher, {"forward": torch.tensor([0, 2])}).item() == pytest.approx(
        1.5 / 20, rel=1e-4
    )
    assert temporal_loss(student, teacher, {"forward": torch.tensor([1, 3])}).item() == pytest.approx(
        (10 + 7) / 2 / 30, rel=1e-4
    )


def test_states_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        temporal_loss({"forward": [row(1.0)]}, {"forward": [row(1.0), row(2.0)]}, {"forward": None})


@pytest.mark.parametrize("rule", ["rsc", "aligned", "inner"])
def test_pruned_network_against_its_own_masked_dense_one(rule: str, random_network, random_clip) -> None:
    """The masked dense network has the pruned one's hidden states, at the channels the pruned one says it keeps."""
    dense = random_network()
    layout = dense.channel_layout(rule)
    plan = PrunePlan.cutting(rule, layout, {group.name: [1] for group in layout.groups})
    pruned = compact(dense, plan)
    channels = {branch: pruned.stream_channels(branch) for branch in ("backward", "forward")}
    kept = {branch: None if places is None else torch.tensor(places) for branch, places in channels.items()}
    frames_NTCHW = random_clip(3)
    with torch.no_grad():
        before = temporal_loss(pruned.hidden_states(frames_NTCHW), dense.hidden_states(frames_NTCHW), kept)
        zero_cut_gates(dense, plan)
        after = temporal_loss(pruned.hidden_states(frames_NTCHW), dense.hidden_states(frames_NTCHW), kept)
    assert after.item() == pytest.approx(FLOOR, rel=1e-6)
    assert before.item() > 1000 * FLOOR
