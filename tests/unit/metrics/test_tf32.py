"""TF32 is set for convolutions and products alike, and put back."""

import pytest
import torch

from vsrprune.metrics.tf32 import tf32


def settings() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("allowed", [True, False])
def test_it_holds_inside_and_is_as_before_after_an_error(allowed: bool) -> None:
    before = settings()
    with tf32(not allowed):
        assert settings() == (not allowed, not allowed)
        with tf32(allowed):
            assert settings() == (allowed, allowed)
        assert settings() == (not allowed, not allowed)
    with pytest.raises(KeyError), tf32(allowed):
        raise KeyError
    assert settings() == before
