"""Peak memory of calls whose need is known."""

from __future__ import annotations

import torch

from vsrprune.metrics.memory import bytes_of, peak_memory

MIB = 2**20


def test_a_call_needs_what_it_allocates() -> None:
    def call() -> None:
        big = torch.ones(16 * MIB)  # float32: 64 MiB
        del big
        torch.ones(8 * MIB)

    nothing, peak = peak_memory(lambda: None, torch.device("cpu")), peak_memory(call, torch.device("cpu"))
    assert nothing is not None
    assert nothing.held in range(8 * MIB)
    assert peak is not None
    assert 60 * MIB <= peak.held <= 80 * MIB
    assert peak.reserved is None


def test_the_weights_of_a_network_are_counted_once() -> None:
    shared = torch.nn.Linear(3, 5)  # 15 weights and 5 biases
    network = torch.nn.Sequential(shared, torch.nn.ReLU(), shared)
    assert bytes_of(network) == 20 * 4
    assert bytes_of(network.half()) == 20 * 2
    with_weights = peak_memory(lambda: None, torch.device("cpu"), weights=1000 * MIB)
    assert with_weights is not None
    assert with_weights.held in range(1000 * MIB, 1008 * MIB)


def test_what_earlier_calls_left_behind_is_counted_again() -> None:
    def call() -> object:
        return [torch.ones(MIB // 4) + 1 for _ in range(24)]  # 1 MiB each: small enough for the allocator to keep

    first = peak_memory(call, torch.device("cpu"))
    again = peak_memory(call, torch.device("cpu"))
    assert first is not None
    assert again is not None
    assert again.held > 16 * MIB
