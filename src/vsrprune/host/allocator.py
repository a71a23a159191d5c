"""What the C library does with memory that tensors gave back."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
# Bytes. Larger blocks are mapped from the system and given back as soon as they are free. Older versions of glibc take
# no more than the second.
LARGEST_KEPT = (1 << 30, 32 << 20)
MOST_KEPT = (1 << 31) - 1  # the largest that mallopt takes


def keep_freed_memory() -> None:
    """Have this process use the memory of freed tensors again, instead of asking the system for it each time.

    Feature maps of 720p are tens of megabytes, which glibc maps anew for every one: the system fills each page with
    zeros first, and that takes longer than a narrow convolution does. The price is a peak of a third to a half more
    memory, since blocks of other sizes do not fit into what is free. Elsewhere than in glibc nothing happens, and where
    MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ or GLIBC_TUNABLES say how, a user has chosen.
    """
    chosen = any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"))
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # The second alone would stop glibc from raising the first by itself, which stands at 128 kB in a new process.
    if mallopt is not None and any(mallopt(M_MMAP_THRESHOLD, largest) for largest in LARGEST_KEPT):
        mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
