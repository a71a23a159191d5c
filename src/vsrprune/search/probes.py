"""The PSNR that a plan reaches at each rung, and what that depends on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from vsrprune.errors import UserError
from vsrprune.host.machine import working
from vsrprune.search.bench import SearchBench
from vsrprune.search.sound import MEND
from vsrprune.stages.bench import finish
from vsrprune.store.atomic import write_json
from vsrprune.store.store import Artifact, content_key

PROBE_VERSION = 1  # raise it when a change in code changes what a rung computes
STAGE, FILE = "probe", "probe.json"


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
    """PSNR in dB at each rung; that of a plan that was scored to its last rung before is read from the store."""
    kept = kept_psnr(bench, counts)
    if kept is not None:
        yield from kept
        return
    reached = []
    for psnr in _computed(bench, counts):
        reached.append(psnr)
        yield psnr

    def make(folder: Path, work: Path) -> None:
        write_json(folder / FILE, {"psnr": reached})

    settings = _settings(bench, counts)
    with contextlib.suppress(OSError):  # of a store that may only be read: the study has the scores too
        bench.store.produce(STAGE, content_key(settings), settings, make)


def kept_psnr(bench: SearchBench, counts: Mapping[str, int]) -> list[float] | None:
    """PSNR in dB at every rung of a plan that the store has the scores of."""
    artifact = bench.store.find(STAGE, content_key(_settings(bench, counts)))
    return None if artifact is None else _psnr(artifact)


def check_kept(bench: SearchBench, study: optuna.Study) -> None:
    """Raise UserError where a trial's PSNR is not that of its artifact; a store that others do not share has none."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        psnr, counts = trial.user_attrs.get("psnr", []), trial.user_attrs.get("counts", {})
        kept = kept_psnr(bench, counts) if len(psnr) == len(bench.search.rungs) else None
        if kept is not None and kept != psnr:
            raise UserError(
                f"the database of the study {study.study_name!r} is damaged (trial {trial.number} has the PSNR"
                f" {psnr[-1]}, and its artifact {kept[-1]}); {MEND}"
            )


def _computed(bench: SearchBench, counts: Mapping[str, int]) -> Iterator[float]:
    # Other jobs' measurements of latency are let through between two steps.
    with working(bench.job.place.uuids, partial(finish, bench.trials.device)) as right:
        yield from bench.trials.psnr_at(counts, bench.search.rungs, right.give_way)


def probe(bench: SearchBench, counts: Mapping[str, int]) -> list[float]:
    """PSNR in dB of a reference at every rung, computed once for all searches of one store that ask alike."""
    settings = _settings(bench, counts)

    def make(folder: Path, work: Path) -> None:
        write_json(folder / FILE, {"psnr": list(_computed(bench, counts))})

    return _psnr(bench.store.produce(STAGE, content_key(settings), settings, make))


def _settings(bench: SearchBench, counts: Mapping[str, int]) -> dict[str, Any]:
    return {"counts": dict(counts), **probe_settings(bench)}


def _psnr(artifact: Artifact) -> list[float]:
    psnr: list[float] = artifact.json(FILE)["psnr"]
    return psnr
