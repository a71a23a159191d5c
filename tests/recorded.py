"""A stand-in for CUDA graphs on a CPU: operations are recorded once, in fixed memory, and run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vsrprune.data.sampling import Batch

aten = torch.ops.aten
# With these Python needs a value, or a number of values, from the device.
READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)


class Recording(TorchDispatchMode):
    """Every operation while it is entered, with the very tensors that it read and made.

    As a capture does, it refuses values that Python reads, and tensors that Python makes of numbers: those would be
    copied to the device. They are told by `before`, another recording of the same: what an operation reads was made by
    one of the operations, or was read before too.
    """

    def __init__(self, before: Recording | None = None) -> None:
        super().__init__()
        self.outside: dict[int, Tensor] = {}  # what was not made here, by its memory
        self._before, self._made = before, set[int]()
        self._calls: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        masks = func is aten.index.Tensor and any(index.dtype == torch.bool for index in _tensors(args[1]))
        if func in READS or masks:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        for tensor in _tensors((args, kwargs)):
            if _memory(tensor) not in self._made:
                self.outside[_memory(tensor)] = tensor
                if self._before is not None and _memory(tensor) not in self._before.outside:
                    raise RuntimeError(f"operation not permitted when stream is capturing: {func} of a new tensor")
        made = func(*args, **kwargs)
        # Views, and results of operations in place, follow the memory that they share.
        if any(value.alias_info is not None for value in func._schema.returns):
            self._calls.append((func, args, kwargs, []))
        else:
            self._made.update(map(_memory, _tensors(made)))
            self._calls.append((func, args, kwargs, tree_leaves(made)))
        return made

    @torch.no_grad()
    def replay(self) -> None:
        """Run everything again; every result takes the place of the one that was recorded."""
        for func, args, kwargs, places in self._calls:
            made = func(*args, **kwargs)
            for place, new in zip(places, tree_leaves(made) if places else (), strict=True):
                if isinstance(place, Tensor):
                    place.copy_(new)


def recorded(module: nn.Module, example: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """Does what `vsrprune.stages.training.graphs.graphed` says of CUDA graphs.

    Python runs at the recording alone, so that a number of Python keeps the value that it had then. Batches are copied
    into the example, parameters are read where they lie, and every replay overwrites the results of the one before.
    """
    parameters = tuple(parameter for parameter in module.parameters() if parameter.requires_grad)
    above = torch.ones_like(module(*example))  # warms up
    warm = _pass(module, example, parameters, above)
    (forward, backward), result, gradients = _pass(module, example, parameters, above, warm[0])

    class Replayed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: Tensor) -> Tensor:
            for mine, new in zip(example, given, strict=False):
                mine.copy_(new)
            forward.replay()
            return result.detach()

        @staticmethod
        def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
            above.copy_(*given)
            backward.replay()
            return None, None, *(None if gradient is None else gradient.detach() for gradient in gradients)

    return lambda low, high: Replayed.apply(low, high, *parameters)


def _pass(
    module: nn.Module,
    example: Batch,
    parameters: tuple[Tensor, ...],
    above: Tensor,
    before: tuple[Recording, Recording] | None = None,
) -> tuple[tuple[Recording, Recording], Tensor, tuple[Tensor | None, ...]]:
    """Recordings of the forward and the backward pass, and what they gave."""
    forward, backward = (Recording(recording) for recording in before or (None, None))
    with forward:
        result = module(*example)
    backward._made = forward._made  # what the backward pass reads of the forward pass
    with backward:
        gradients = torch.autograd.grad(result, parameters, above, allow_unused=True)
    return (forward, backward), result, gradients


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
