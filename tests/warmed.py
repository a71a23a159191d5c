"""What the server of `forked` does once after its imports, so that the processes that it forks need not.

The demo's clips are rendered, which takes 0.3 s of a minimal job. An operation on the meta device, on which MACs are
counted, makes PyTorch import 800 modules, which takes a second. No collection of garbage looks through what was
imported.
"""

from __future__ import annotations

import gc
from functools import lru_cache

import torch
from clips_made import DEMO

from vsrprune.data.demo import demo_clips
from vsrprune.stages import clips

FEWEST = (4, 0, 1, 1, 5, "bicubic")  # the arguments of DEMO, as a job gives them


@lru_cache(maxsize=8)
def rendered_once(*arguments: int | str) -> object:
    """As `demo_clips`: the same arguments give the same clips."""
    return DEMO if arguments == FEWEST else demo_clips(*arguments)  # type: ignore[arg-type]


torch.zeros(1, device="meta") + 1
clips.demo_clips = rendered_once  # type: ignore[assignment]
gc.collect()
gc.freeze()
