"""Work of the CPU beside that of a GPU: the scores of a clip are computed while the next is super-resolved."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from vsrprune.metrics.temporal import Each

Later = Callable[[Callable[[], None]], None]  # does a piece of work, now or later; in order


@contextlib.contextmanager
def beside(device: torch.device) -> Iterator[Later]:
    """A function that does work in a thread of its own, while the caller goes on with `device`.

    It waits until the piece before is done, so that no more than two clips are in memory, and raises its errors, as
    does the end. Without a GPU it does the work at once: both would share the same cores.
    """
    if device.type != "cuda":
        yield lambda work: work()
        return
    before: list[Future[None]] = []

    def later(work: Callable[[], None]) -> None:
        while before:
            before.pop().result()
        before.append(worker.submit(work))

    with ThreadPoolExecutor(1, thread_name_prefix="scores") as worker:
        yield later
        later(lambda: None)
        before.pop().result()


@contextlib.contextmanager
def each_on_its_thread() -> Iterator[Each]:
    """A `map` over as many threads as this job may use."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="flow") as pool:
        yield pool.map
