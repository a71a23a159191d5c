"""Training steps as CUDA graphs: the kernels of a step, tens of thousands for a deep network, by two launches.

Without them a training step of published BasicVSR (batch 4, 15 frames of 64x64, TF32) takes 849 ms on an H100, of which
the card computes for 277 ms and waits for launches otherwise.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Network
from vsrprune.stages.training.hardware import Hardware

Losses = Callable[[Batch], dict[str, Tensor]]
Replay = Callable[[Tensor, Tensor], Tensor]
WARM_UPS = 3  # in which cuDNN chooses its algorithms; PyTorch's own default


class BatchTerms(nn.Module):
    """The terms (n,) of a stage's loss that depend on the batch; its parameters are all that the stage trains.

    names: of the terms, known after the first call. context: what a training step computes in, such as autocast.
    """

    def __init__(self, stage: nn.Module, losses: Losses, context: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self._stage, self._losses, self._context = stage, losses, context
        self.names: tuple[str, ...] = ()

    def forward(self, low_NTCHW: Tensor, high_NTCHW: Tensor) -> Tensor:
        """The terms for a batch."""
        # Entered here and not around the capture: the backward pass of a training step runs without autocast.
        with self._context():
            losses = self._losses(Batch(low_NTCHW, high_NTCHW))
            self.names = tuple(losses)
            return torch.stack(list(losses.values()))


@dataclass(frozen=True)
class Captured:
    """Loss terms by replay, for batches whose tensors have the `shapes` of those that were captured."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    replay: Replay

    def fits(self, batch: Batch) -> bool:
        """Whether a batch has the shapes that were captured."""
        return tuple(part.shape for part in batch) == self.shapes

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms by name. The next replay overwrites them, and the gradients of their backward pass with them."""
        return dict(zip(self.names, self.replay(*batch).unbind(), strict=True))


def graphed(module: nn.Module, example: Batch) -> Replay:
    """`module(low, high)` with its backward pass, both replayed from CUDA graphs for batches of the example's shapes.

    The example's tensors become the memory into which every batch is copied. No other thread may call CUDA meanwhile,
    such as one that pins batches. Raises RuntimeError for what cannot be captured.
    """
    # A capture that fails leaves its own stream as the current one; this context puts back the one of before.
    with torch.cuda.stream(torch.cuda.current_stream()):
        made = cast(
            Replay,
            torch.cuda.make_graphed_callables(
                module, tuple(example), num_warmup_iters=WARM_UPS, allow_unused_input=True
            ),
        )
    # Not the module that PyTorch returns, which holds the stage and would become a part of it.
    return lambda low_NTCHW, high_NTCHW: made(low_NTCHW, high_NTCHW)


def captured(terms: BatchTerms, example: Batch, say: Callable[[str], None] = print) -> Captured | None:
    """Capture the terms, or say in one line why the training goes on without; the stage is left as it was."""
    # Buffers that a network changes in its forward pass, such as running means, have seen the warm-ups by the end.
    buffers = [(buffer, buffer.clone()) for buffer in terms.buffers()]
    replay: Replay | None = None
    try:
        replay = graphed(terms, example)
    except RuntimeError as error:
        say(f"  note: trains without CUDA graphs, since the step cannot be captured: {_first_line(error)}")
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
    if replay is None:
        release()  # not before, since an error holds what the functions it passed were at work on
        return None
    return Captured(terms.names, tuple(part.shape for part in example), replay)


def _first_line(error: BaseException) -> str:
    """What went wrong first: the end of a capture under way fails too, with words that tell nothing."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).strip().partition("\n")[0]


def release() -> None:
    """Give the memory of graphs that nothing refers to back to the card."""
    gc.collect()  # a graphed module is part of a cycle
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def uses_graphs(hardware: Hardware, network: Network) -> bool:
    """Whether training steps are to be replayed, as trainer.graphs says; auto takes no graphs for fp16."""
    # Data-parallel training captures its own communication only after warm-ups of another kind, and checkpointed frames
    # ask the host for the state of random numbers.
    possible = hardware.device == "cuda" and hardware.count == 1 and not network.checkpoint_frames
    if hardware.graphs == "auto":
        return possible and hardware.arithmetic.precision in ("32-true", "bf16-mixed")
    return possible and hardware.graphs is True
