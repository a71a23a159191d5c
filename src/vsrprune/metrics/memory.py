"""The peak memory of a call."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LIBC = ctypes.CDLL(None)
RESET_PEAK = "5"  # written to clear_refs, it sets VmHWM back to VmRSS; see proc(5)


@dataclass(frozen=True)
class CudaPeak:
    """The most bytes on a CUDA device at a time, while a call ran.

    allocated: in tensors, the network's own and all that is on the device included. reserved: what PyTorch took from
    the device for them, which is what stands in the way of other jobs; the CUDA context, some 0.5 GB, is not in it.
    """

    allocated: int
    reserved: int


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes that a call holds at a time, over what is held when it begins.

    On a GPU these are the bytes that PyTorch allocates, elsewhere the resident memory of the process. None where the
    system does not tell.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        return cuda_peak(call, device).allocated - before
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)  # what earlier calls left in the allocator would be used again, unseen
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return None
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def cuda_peak(call: Callable[[], object], device: torch.device) -> CudaPeak:
    """The peak memory of a CUDA device while a call runs."""
    torch.cuda.synchronize(device)
    # Memory that earlier calls left reserved would be used again, and counted as this call's.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return CudaPeak(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device))


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
