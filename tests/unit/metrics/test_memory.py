"""Peak memory of calls whose need is known."""

from __future__ import annotations

import torch

from vsrprune.metrics.memory import peak_memory

MIB = 2**20


def test_a_call_needs_what_it_allocates() -> None:
    def call() -> None:
        big = torch.ones(16 * MIB)  # float32: 64 MiB
        del big
        torch.ones(8 * MIB)

    assert peak_memory(lambda: None, torch.device("cpu")) in range(8 * MIB)
    peak = peak_memory(call, torch.device("cpu"))
    assert peak is not None
    assert 60 * MIB <= peak <= 80 * MIB


def test_what_earlier_calls_left_behind_is_counted_again() -> None:
    def call() -> object:
        return [torch.ones(MIB // 4) + 1 for _ in range(24)]  # 1 MiB each: small enough for the allocator to keep

    first = peak_memory(call, torch.device("cpu"))
    again = peak_memory(call, torch.device("cpu"))
    assert first is not None
    assert again is not None
    assert again > 16 * MIB
