"""Memory of freed tensors is used again, where the C library can be told so."""

import ctypes
import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from vsrprune.host.allocator import keep_freed_memory
if {keeps}:
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):  # glibc's lists of small pieces fill up first, beside each of which a new block begins
    torch.ones(16 * 2**20)  # 64 MB, more than glibc keeps by itself
before = faults()
for _ in range(4):
    torch.ones(16 * 2**20)
print(faults() - before)
"""
PAGES = 4 * 64 * 2**20 // os.sysconf("SC_PAGE_SIZE")


def faults(keeps: bool, **chosen: str) -> int:
    # Threads that write to the memory first would have it in pages of their own.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "0", **chosen}
    command = [sys.executable, "-c", FAULTS.format(keeps=keeps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="this is not glibc")
def test_freed_memory_is_used_again() -> None:
    kept, given_back = faults(keeps=True), faults(keeps=False)
    assert kept < PAGES / 50
    # Where pages are huge by default there are few faults anyway.
    assert kept <= given_back


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="this is not glibc")
def test_what_a_user_chose_is_left() -> None:
    chosen = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
    assert faults(keeps=True, **chosen) == pytest.approx(faults(keeps=False, **chosen), rel=0.1)
