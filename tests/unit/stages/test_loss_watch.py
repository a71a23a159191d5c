"""A loss that is not finite is remembered where it is, and named with its terms when somebody looks."""

from __future__ import annotations

import math

import pytest
import torch

from vsrprune.stages.training.watch import READ_EVERY, LossWatch, steps_between_reads


def test_nothing_is_bad_before_the_first_loss_and_while_all_are_finite() -> None:
    watch = LossWatch(torch.device("cpu"))
    assert watch.first_bad() is None
    for step in range(3):
        watch.see(step, torch.tensor([float(step), 1e38]))
        assert watch.first_bad() is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_bad_step_is_named_with_its_terms_whatever_comes_after(bad: float) -> None:
    watch = LossWatch(torch.device("cpu"))
    for step, terms in enumerate([[1.0, 2.0], [3.0, bad], [4.0, 5.0], [bad, 6.0]], start=7):
        watch.see(step, torch.tensor(terms))
    found = watch.first_bad()
    assert found is not None
    assert found[0] == 8
    assert found[1] == pytest.approx([3.0, bad], nan_ok=True)


def test_a_fused_adam_is_held_still_from_the_first_bad_loss_on() -> None:
    watch, weight = LossWatch(torch.device("cpu")), torch.zeros(3, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=0.1, fused=True)
    adam.found_inf = watch.found  # type: ignore[attr-defined]
    seen = []
    for step, loss in enumerate([1.0, 1.0, math.nan, 1.0]):
        watch.see(step, torch.tensor([loss]))
        weight.grad = torch.full((3,), loss)
        adam.step()
        seen.append(weight.tolist())
    assert seen[0] == pytest.approx([-0.1] * 3)
    assert seen[1] == pytest.approx([-0.2] * 3)
    assert seen[2] == seen[3] == seen[1]


def test_terms_that_are_finite_with_a_sum_that_is_not_are_bad() -> None:
    watch = LossWatch(torch.device("cpu"))
    watch.see(0, torch.tensor([3e38, 3e38]))
    found = watch.first_bad()
    assert found is not None
    assert found[0] == 0


def test_a_later_change_of_the_terms_in_place_changes_nothing() -> None:
    watch, terms = LossWatch(torch.device("cpu")), torch.tensor([math.nan, 1.0])
    watch.see(0, terms)
    terms.zero_()
    found = watch.first_bad()
    assert found is not None
    assert found[1] == pytest.approx([math.nan, 1.0], nan_ok=True)


def test_only_a_cpu_is_read_at_every_step() -> None:
    assert steps_between_reads(torch.device("cpu")) == 1
    assert steps_between_reads(torch.device("cuda")) == READ_EVERY == 10
