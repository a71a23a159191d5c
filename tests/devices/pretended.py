"""A pretended card on a machine without one. Only for a process of its own: importing this changes PyTorch for good.

A tensor on it holds its values on the CPU, says that it is on `npu:0`, and raises as CUDA does where an operation mixes
it with tensors of the CPU. As on CUDA, copies, tensors of one value and indices on the CPU may be mixed; what makes a
real card wait is counted. PyTorch's own FakeTensorMode cannot do this in a build without CUDA.

Not pretended: `.to(dtype)` of a module that is on the device already.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("npu")
torch.npu.is_available = lambda: True
torch.npu.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]

DEVICE, CPU = torch.device("npu:0"), torch.device("cpu")
COPIES, READS = "copies to the device", "values read on the host"
COUNTED: Counter[str] = Counter()

aten = torch.ops.aten
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
MIXED = {aten.copy_.default, *INDEXING}
# The host needs a value, or the number of values, before it can go on.
READING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}

_tensor_of, _no_grad = torch.tensor, torch.no_grad


def _tensor(data: Any, *rest: Any, device: Any = None, **more: Any) -> torch.Tensor:
    made = _tensor_of(data, *rest, **more)
    return made if device is None else made.to(device)


def _inference_mode(mode: Any = True) -> Any:
    if isinstance(mode, bool):
        return _no_grad() if mode else torch.enable_grad()
    return _no_grad()(mode)


torch.tensor = _tensor  # it fills its result past every dispatch
torch.inference_mode = _inference_mode  # its tensors cannot be wrapped


class There(torch.Tensor):
    """A tensor that says that it is on the device; its values are in `here`."""

    here: torch.Tensor

    def __new__(cls, here: torch.Tensor) -> There:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=DEVICE,
        )
        made.here = here
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self) -> str:
        return f"There({tuple(self.shape)}, {self.dtype})"

    def __getitem__(self, index: Any) -> Any:
        def moved(part: Any) -> Any:
            return torch.tensor(part, device=DEVICE) if isinstance(part, list) else part

        return torch.Tensor.__getitem__(self, tuple(map(moved, index)) if isinstance(index, tuple) else moved(index))

    def tolist(self) -> Any:
        COUNTED[READS] += 1
        return self.here.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            made = There(self.here.clone())
            is_parameter = getattr(self, "_is_param", False)
            memo[id(self)] = torch.nn.Parameter(made, self.requires_grad) if is_parameter else made
        return memo[id(self)]


class Pretend(TorchDispatchMode):
    """While it is entered, tensors can be made on the device and moved to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        ours = any(isinstance(item, There) for item in tree_flatten((args, kwargs))[0]) or _is_ours(kwargs)
        return _run(func, args, kwargs) if ours else func(*args, **kwargs)


def _is_ours(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("device") is not None and torch.device(kwargs["device"]).type == DEVICE.type


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
    there = [item for item in tensors if isinstance(item, There)]
    mixed = there and any(item.dim() for item in tensors if not isinstance(item, There))
    if mixed and func not in MIXED:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices ({func})")
    if there or _is_ours(kwargs):
        _count(func, args, kwargs)
    wrap = bool(there)
    if kwargs.get("device") is not None:
        wrap = _is_ours(kwargs)
        kwargs = {**kwargs, "device": CPU} if wrap else kwargs
    if func is aten.copy_.default and there:
        wrap = isinstance(args[0], There)
    result = func(*tree_map(_values, args), **tree_map(_values, kwargs))
    if not wrap:
        return args[0] if func is aten.copy_.default else result
    result = tree_map(lambda item: There(item) if isinstance(item, torch.Tensor) else item, result)
    aliases = func._schema.is_mutable or any(item.alias_info for item in func._schema.returns)
    return return_and_correct_aliasing(func, args, kwargs, result) if there and aliases else result


def _values(item: Any) -> Any:
    return item.here if isinstance(item, There) else item


def _count(func: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """What makes the host and a card wait for each other: copies, values that are read, sizes that are values."""
    if func is aten._to_copy.default and kwargs.get("device") is not None:
        begins, ends = isinstance(args[0], There), _is_ours(kwargs)
    elif func is aten.copy_.default:
        begins, ends = isinstance(args[1], There) or not args[1].dim(), isinstance(args[0], There)
    else:
        begins = ends = False
    COUNTED[COPIES] += ends and not begins
    COUNTED[READS] += begins and not ends
    if func in INDEXING:
        indices = [index for index in args[1] if index is not None]
        COUNTED[COPIES] += sum(not isinstance(index, There) for index in indices)
        COUNTED[READS] += sum(index.dtype == torch.bool for index in indices)  # its ones are looked for
    COUNTED[READS] += func in READING
