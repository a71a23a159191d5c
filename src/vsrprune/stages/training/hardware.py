"""On what a training runs, and how it computes there: precision, TF32, cuDNN's algorithms, the memory format."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision

from vsrprune.errors import UserError
from vsrprune.metrics.tf32 import tf32

# The memory format for trainer.memory_format=auto, by device and by what convolutions compute in. On a CPU a training
# step of the tiny network is a fifth faster channels last. Tensor cores, which compute in 16 bits and TF32, read
# channels last; cuDNN's other kernels read channels first. Both lines of `cuda` are its documentation's advice.
FORMATS: Mapping[tuple[str, str], torch.memory_format] = {
    ("cpu", "16 bits"): torch.channels_last,
    ("cpu", "float32"): torch.channels_last,
    ("cuda", "16 bits"): torch.channels_last,
    ("cuda", "TF32"): torch.channels_last,
    ("cuda", "float32"): torch.contiguous_format,
}
NAMED_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class Arithmetic:
    """How a training computes; see TrainerConfig."""

    precision: str = "32-true"
    tf32: bool = True
    benchmark: bool = True
    deterministic: bool = False
    memory_format: str = "auto"


@dataclass(frozen=True)
class Hardware:
    """On what to train. device: cpu or cuda. count: devices, a process for each. Others: see TrainerConfig."""

    device: str = "cpu"
    count: int = 1
    workers: int = 0
    arithmetic: Arithmetic = Arithmetic()
    graphs: bool | str = "auto"


def check_precision(precision: str, device: str) -> None:
    """Raise UserError for a precision of training that the device (cpu or cuda) does not have."""
    if precision == "16-mixed" and device == "cpu":
        raise UserError(
            "trainer.precision=16-mixed needs a CUDA device, and this job computes on the CPU; use"
            " trainer.precision=bf16-mixed or 32-true"
        )
    if precision == "bf16-mixed" and device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            "trainer.precision=bf16-mixed needs a card of NVIDIA's Ampere generation or a later one, and this is"
            f" {torch.cuda.get_device_name()}; use trainer.precision=16-mixed or 32-true"
        )


def check_graphs(graphs: bool | str, device: str) -> None:
    """Raise UserError where trainer.graphs=true asks a CPU for CUDA graphs."""
    if graphs is True and device == "cpu":
        raise UserError("trainer.graphs=true needs a CUDA device, and this job computes on the CPU; use auto or false")


def precision_plugin(arithmetic: Arithmetic, device: str) -> Precision:
    """Lightning's autocast, and for fp16 its scaler of gradients, whose state is in every checkpoint."""
    # Not by Trainer(precision=...), which on a CPU takes bf16 in place of fp16.
    if arithmetic.precision == "32-true":
        return Precision()
    return MixedPrecision(arithmetic.precision, device)  # type: ignore[arg-type]


def memory_format(hardware: Hardware) -> torch.memory_format:
    """How the weights lie in memory; activations follow them."""
    asked = hardware.arithmetic.memory_format
    return FORMATS[hardware.device, _factors(hardware)] if asked == "auto" else NAMED_FORMATS[asked]


def _factors(hardware: Hardware) -> str:
    """What convolutions multiply, as FORMATS names it."""
    if hardware.arithmetic.precision != "32-true":
        return "16 bits"
    return "TF32" if hardware.device == "cuda" and hardware.arithmetic.tf32 else "float32"


@contextlib.contextmanager
def computing(hardware: Hardware) -> Iterator[None]:
    """Compute on a CUDA device as asked while the body runs; PyTorch's settings are the process's, and restored."""
    if hardware.device != "cuda":
        yield
        return
    asked, cudnn = hardware.arithmetic, torch.backends.cudnn
    before = cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with tf32(asked.tf32):
        # A trial of algorithms may end otherwise in the next process, so it goes with no promise of equal bits.
        cudnn.benchmark = asked.benchmark and not asked.deterministic
        if asked.deterministic:
            # cuBLAS repeats its bits only with a workspace of fixed size.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            # A warning, since the backward pass of grid_sample has no deterministic form: an error would refuse every
            # network that warps.
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            cudnn.benchmark = before[0]
            torch.use_deterministic_algorithms(before[1], warn_only=warned_only)
