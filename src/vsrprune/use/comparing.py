"""A network beside bicubic, or bicubic alone, on the clips of a test set: as published tables, without any training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from vsrprune.config.job import Config
from vsrprune.data.clips import Clip
from vsrprune.data.reading import Notes, read_clip
from vsrprune.data.sets.layout import FoundClips
from vsrprune.data.sources import check_crop
from vsrprune.errors import UserError
from vsrprune.host.progress import StageProgress
from vsrprune.metrics.tf32 import tf32
from vsrprune.networks.checkpoints import load_dense
from vsrprune.networks.network import Network
from vsrprune.results.result import Quality
from vsrprune.stages.clips import reading_of
from vsrprune.stages.pictures import bicubic
from vsrprune.stages.quality import QualityMeter, restored
from vsrprune.use.load import load_trained

Say = Callable[[str], None]
BICUBIC, NETWORK = "bicubic", "network"  # the columns, in their order


def find_network(model: Path, config: Config, which: str, say: Say) -> Network:
    """The network of a job or of a folder; of a file of weights where `config.pretrained` names it.

    Raises UserError where there is none, or weights are of another network than `config.model`.
    """
    if not config.pretrained:
        return load_trained(model, config.store_dir, say, which)
    return load_dense(model.expanduser(), config.model.arguments, say).eval()


def compare(config: Config, sources: FoundClips, network: Network | None, scale: int, say: Say) -> dict[str, Quality]:
    """PSNR and SSIM of bicubic and of the network (if any) on the clips `sources.val`, by `config.comparison`.

    Clips are read one after another, so that no more than one is in memory. Raises UserError for what cannot be read,
    and if no clip is left.
    """
    device = _device(config.trainer.accelerator)
    names = (BICUBIC, NETWORK) if network else (BICUBIC,)
    meters = {name: QualityMeter(config.comparison, device) for name in names}
    notes, network, compared = Notes(), network and network.to(device), 0
    with tf32(False), StageProgress("compare", len(sources.val)) as progress:
        for done, clip in enumerate(_clips(config, sources, scale, notes), start=1):
            if clip is None:
                continue
            meters[BICUBIC].add(clip, bicubic(clip, scale))
            if network:
                meters[NETWORK].add(clip, restored(network, clip, device, config.comparison.centre))
            compared += 1
            progress.update(done)
    for note in (*sources.notes, *sources.warnings, *notes.lines()):
        say(f"note: {note}")
    if not compared:
        raise UserError(f"data: none of the {len(sources.val)} clips can be read")
    return {name: meter.quality() for name, meter in meters.items()}


def _clips(config: Config, sources: FoundClips, scale: int, notes: Notes) -> Iterator[Clip | None]:
    """The clips; None for those that are skipped."""
    how = reading_of(config, scale)
    for source in sources.val:
        clip = read_clip(source, how, notes)
        if clip is not None:
            height, width = clip.high_TCHW.shape[-2:]
            check_crop(f"the clip {clip.name}", (height, width), config.comparison.crop)
        yield clip


def _device(accelerator: str) -> torch.device:
    there = torch.cuda.is_available()
    if accelerator == "gpu" and not there:
        raise UserError("--device cuda: PyTorch finds no GPU here; use --device cpu")
    return torch.device("cuda" if there and accelerator != "cpu" else "cpu")
