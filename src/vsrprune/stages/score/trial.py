"""Run a score of the user's own: on the trained network, and once before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from vsrprune.channels.layout import ChannelLayout
from vsrprune.data.sampling import Batch
from vsrprune.errors import UserError
from vsrprune.networks.network import Network
from vsrprune.networks.own.sources import failure, import_source
from vsrprune.networks.table import build
from vsrprune.pruning.scores.own import checked, checked_shapes
from vsrprune.selection.scores import Scores
from vsrprune.stages.job import Job
from vsrprune.stages.score.own import OwnScore, own_score

FRAMES = 3  # of the clip that is tried: enough for a frame with two neighbours


def scores_of(own: OwnScore, network: Network, layout: ChannelLayout, batches: Iterator[Batch] | None) -> Scores:
    """The scores that the function returns. Raises UserError, one line, for what fails in it or is wrong with them."""
    found = _called(own, network, layout, batches)
    try:
        return checked(found, layout)
    except UserError as error:
        raise UserError(f"score={own.asked}: {error}") from error


def try_own_score(job: Job, device: torch.device) -> None:
    """Call the function on a network without training, and noise: a mistake in it must not show hours later.

    Raises UserError, one line. The numbers are not looked at, since untrained weights may well score NaN.
    """
    own, schedule, scale = own_score(job.config.score), job.config.schedule, job.arguments.scale
    low_NTCHW = torch.rand(1, min(schedule.frames, FRAMES), 3, schedule.patch, schedule.patch, device=device)
    high_NTCHW = torch.rand(*low_NTCHW.shape[:3], *(side * scale for side in low_NTCHW.shape[3:]), device=device)
    batches = iter([Batch(low_NTCHW, high_NTCHW)]) if job.config.score_batches else None
    found = _called(own, build(job.arguments).to(device), job.layout, batches)
    try:
        checked_shapes(found, job.layout)
    except UserError as error:
        raise UserError(f"score={own.asked}: {error}") from error


def _called(own: OwnScore, network: Network, layout: ChannelLayout, batches: Iterator[Batch] | None) -> Any:
    try:
        return getattr(import_source(own.source), own.function)(network, layout, batches)
    except UserError:
        raise
    # SystemExit too: a script may end itself when it is imported.
    except (Exception, SystemExit) as error:
        raise UserError(f"score={own.asked} failed {failure(error, own.source)}") from error
