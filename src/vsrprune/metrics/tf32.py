"""TF32: float32 factors of convolutions and matrix products rounded to 10 bits, on the Tensor cores of CUDA devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Compute float32 convolutions and matrix products in TF32, or not, while the body runs.

    PyTorch by itself does so for convolutions and not for matrix products. Other devices than CUDA's know no TF32.
    """
    # The settings by their older names: torch 2.9 has both, and refuses to read one kind after the other was set.
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = allowed
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before
