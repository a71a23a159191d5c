"""The peak memory of a call."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LIBC = ctypes.CDLL(None)
RESET_PEAK = "5"  # written to clear_refs, it sets VmHWM back to VmRSS; see proc(5)


@dataclass(frozen=True)
class Peak:
    """The most bytes at a time while a call ran.

    held: over what was held when it began, and the network's weights. reserved: on a CUDA device what PyTorch took from
    it in all, which is what other jobs cannot have; the CUDA context, some 0.5 GB, comes on top. Elsewhere None.
    """

    held: int
    reserved: int | None = None


def peak_memory(call: Callable[[], object], device: torch.device, weights: int = 0) -> Peak | None:
    """What a call needs; None where the system does not tell. weights: bytes of the network, held when it begins.

    On a CUDA device these are the bytes of tensors, elsewhere the resident memory of the process.
    """
    if device.type == "cuda":
        return _cuda_peak(call, device, weights)
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)  # what earlier calls left in the allocator would be used again, unseen
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return None
    before = _status("VmRSS")
    call()
    return Peak(max(0, _status("VmHWM") - before) + weights)


def bytes_of(network: Any) -> int:
    """The bytes of a module's parameters and buffers, each tensor once."""
    tensors = {value.data_ptr(): value.nbytes for value in (*network.parameters(), *network.buffers())}
    return sum(tensors.values())


def _cuda_peak(call: Callable[[], object], device: torch.device, weights: int) -> Peak:
    torch.cuda.synchronize(device)
    # Memory that earlier calls left reserved would be used again, and counted as this call's.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    held = torch.cuda.max_memory_allocated(device) - before + weights
    return Peak(held, torch.cuda.max_memory_reserved(device))


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
