"""How the jobs of a sweep divide the cards of this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from weakref import WeakKeyDictionary

from hydra_plugins.vsrprune_launcher.engines import Call, Ended, Submit
from vsrprune.host.devices import VISIBLE, Card


def blocks_of(cards: Sequence[Card], devices: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each block of `devices` cards; cards that fill no block are left out."""
    ids = [card.uuid for card in cards]
    return [",".join(ids[first : first + devices]) for first in range(0, len(ids) - devices + 1, devices)]


def dividing(submit: Submit, blocks: Sequence[str]) -> Submit:
    """The same, but every call sees only one block: of those with the fewest running calls, the first."""
    # Weakly, since a future that lives on makes Dask run its job again if its worker is lost.
    places: WeakKeyDictionary[Future[Ended], str] = WeakKeyDictionary()

    def submit_to_block(call: Call) -> Future[Ended]:
        running = Counter(block for future, block in places.items() if not future.done())
        block = min(blocks, key=lambda name: running[name])
        future = submit(replace(call, environment={**call.environment, VISIBLE: block}))
        places[future] = block
        return future

    return submit_to_block


def sharing(jobs: int, blocks: Sequence[str], devices: int) -> str:
    """What a sweep says if several of its jobs share a card; empty if none do."""
    if jobs <= len(blocks):
        return ""
    count = len(blocks) * devices
    return f"{jobs} jobs share {count} GPU{'s' if count > 1 else ''}: fewer launcher.jobs, if memory runs out"
