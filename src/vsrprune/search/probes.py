"""The PSNR that a plan reaches at each rung, and what that depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from vsrprune.host.machine import working
from vsrprune.search.bench import SearchBench
from vsrprune.stages.bench import finish
from vsrprune.store.atomic import write_json
from vsrprune.store.store import content_key

PROBE_VERSION = 1  # raise it when a change in code changes what a rung computes
FILE = "probe.json"


def probe_settings(bench: SearchBench) -> dict[str, Any]:
    """What the PSNR of a trial depends on beside its counts."""
    # Sampler, space and budget are left out: what a plan is worth does not depend on how it was found.
    config, search = bench.config, bench.search
    return {
        "version": PROBE_VERSION,
        "scores": bench.job.stage("score").key,
        "order": config.ranking_order,
        "training": asdict(bench.training),
        "rungs": list(search.rungs),
        "clips": [search.clips, search.frames, search.seed],
        "comparison": asdict(config.comparison),
        "precision": config.trainer.precision,
    }


def score_plan(bench: SearchBench, counts: Mapping[str, int]) -> Iterator[float]:
    """PSNR in dB at each rung; other jobs' measurements of latency are let through between two steps."""
    with working(bench.job.place.uuids, partial(finish, bench.trials.device)) as right:
        yield from bench.trials.psnr_at(counts, bench.search.rungs, right.give_way)


def probe(bench: SearchBench, counts: Mapping[str, int]) -> list[float]:
    """PSNR in dB of a reference at every rung, computed once for all searches of one store that ask alike."""
    settings = {"counts": dict(counts), **probe_settings(bench)}

    def make(folder: Path, work: Path) -> None:
        write_json(folder / FILE, {"psnr": list(score_plan(bench, counts))})

    artifact = bench.store.produce("probe", content_key(settings), settings, make)
    psnr: list[float] = artifact.json(FILE)["psnr"]
    return psnr
