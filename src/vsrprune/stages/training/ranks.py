"""Data-parallel training inside a job: this process is rank 0, and starts the other ranks for one stage's training.

Lightning would start a rank by calling the script again, which would compose, plan and lock a second time. Here a rank
is a process that receives the very module, so that all ranks train the same network under the same plan.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed

from vsrprune.errors import LostRankError
from vsrprune.host.processes import dying_with_parent

JOIN_SECONDS = 20  # that the other ranks have to leave after this one


@contextlib.contextmanager
def ranks(count: int, follow: Callable[[Any], None], task: Any) -> Iterator[None]:
    """Run `follow(task)` as ranks 1..count-1 while the body runs as rank 0; both build their Trainer in it.

    On a CPU the threads of this process are divided among the ranks. Raises LostRankError in place of the error that
    the loss of a rank caused here.
    """
    if count == 1:
        yield
        return
    threads = torch.get_num_threads()
    share = max(1, threads // count)
    variables = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": str(share),  # Lightning would set it, and not restore it
    }
    # spawn: a forked child would inherit CUDA and the locks of threads in the middle of their work.
    context = multiprocessing.get_context("spawn")
    others = [
        # No daemons: these may not start the processes that load data. They die with this one all the same.
        context.Process(target=_rank, args=({**variables, "LOCAL_RANK": str(rank)}, share, follow, task))
        for rank in range(1, count)
    ]
    with _environment({**variables, "LOCAL_RANK": "0"}):
        torch.set_num_threads(share)
        try:
            for process in others:
                process.start()
            yield
        except Exception as error:
            # A rank that died makes the collectives of the others fail with errors of the network; its own death is the
            # cause that a user needs.
            for process in others:
                process.join(JOIN_SECONDS)
            lost = [rank for rank, process in enumerate(others, start=1) if (process.exitcode or 0) < 0]
            if lost:
                number = -(others[lost[0] - 1].exitcode or 0)
                raise LostRankError(
                    f"process {lost[0]} of {count} of this job's training died of {signal.Signals(number).name}"
                ) from error
            raise
        finally:
            torch.set_num_threads(threads)
            _leave_group()
            for process in others:
                process.join(JOIN_SECONDS)
                process.kill()


def _rank(variables: dict[str, str], threads: int, follow: Callable[[Any], None], task: Any) -> None:
    dying_with_parent()()
    os.environ.update(variables)
    torch.set_num_threads(threads)
    with contextlib.suppress(Exception):  # rank 0 meets the same error and reports it
        follow(task)
    _leave_group()


def _leave_group() -> None:
    """Leave the process group, which Lightning does not: the next stage starts other ranks."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)  # Lightning removes some itself
            else:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
