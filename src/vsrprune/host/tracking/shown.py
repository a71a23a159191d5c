"""What a tracker shows of a result: its numbers, its layers as a picture, and its crops."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vsrprune.results.measured import MEASURED, Measured
from vsrprune.results.result import CROP_KINDS, CROP_PLACES, Layer, Result
from vsrprune.store.atomic import read_json

CLIPS_SHOWN = 4


def measured_in(folder: Path) -> Measured | None:
    """What was measured of the job in `folder`; None where nothing was."""
    return Measured.load(folder) if (folder / MEASURED).is_file() else None


def summary_of(result: Result, measured: Measured | None) -> dict[str, float]:
    """The numbers that dashboards sort, filter and plot runs by; latencies and memory only if they were measured.

    Hidden-state errors are means over frames. Memory is in MiB, MACs are per frame.
    """
    dense, pruned = result.cost["dense"], result.cost["pruned"]
    named = {result.baseline_name if name == "baseline" else name: value for name, value in result.quality.items()}
    temporal = {
        f"{measure}/{name}": value
        for measure in ("tof", "warping_error")
        for name, quality in named.items()
        if (value := getattr(quality, measure)) is not None
    }
    values = {
        **{f"psnr/{name}": quality.psnr for name, quality in named.items()},
        **{f"psnr_test/{name}": quality.psnr for name, quality in result.test.items()},
        **{f"ssim/{name}": quality.ssim for name, quality in named.items()},
        **temporal,
        "psnr/lost": result.quality["dense"].psnr - result.quality["finetuned"].psnr,
        "macs_kept": result.macs_kept,
        "units_cut": result.units_cut,
        "macs": pruned.macs,
        "macs_with_flow": pruned.macs_with_flow,
        "macs_with_flow_kept": pruned.macs_with_flow / dense.macs_with_flow,
        "parameters": pruned.parameters,
        "parameters_kept": pruned.parameters / dense.parameters,
    }
    values |= {
        f"hidden_error/{point}/{branch}": fmean(error.total)
        for point, branches in result.hidden_error.items()
        for branch, error in branches.items()
    }
    if result.equivalence is not None:
        values["equivalence/float64"] = result.equivalence.float64
    if result.int8 is not None:
        values |= {"psnr/int8": result.int8.quality.psnr, "ssim/int8": result.int8.quality.ssim}
    if measured is not None:
        values |= {
            f"engine_ms/{engine}/{name}": ms
            for engine, times in measured.engine_ms.items()
            for name, ms in times.items()
        }
        values |= {
            "latency_ms": measured.pruned_ms,
            "latency_ms_dense": measured.dense_ms,
            "speed_up": measured.speed_up,
        }
        values |= {
            f"peak_memory_mib{suffix}": value
            for suffix, name in (("", "pruned"), ("_dense", "dense"))
            if (value := measured.peak_memory_mib.get(name)) is not None
        }
    return values


def crop_files(folder: Path) -> dict[str, Path]:
    """Pictures of a few clips, those of one clip side by side, by caption."""
    path = folder / CROP_PLACES
    clips = [place["clip"] for place in read_json(path)] if path.is_file() else []
    pictures = {f"{clip}: {kind}": folder / f"{clip}_{kind}.png" for clip in clips[:CLIPS_SHOWN] for kind in CROP_KINDS}
    return {caption: picture for caption, picture in pictures.items() if picture.is_file()}


CUT, BRIGHT, DARK = (213, 94, 0), (240, 244, 250), (20, 50, 110)  # red for the colour-blind too; blues
CELL_HEIGHT, LABEL_GAP = 12, 4  # pixels


def layer_heatmap(result: Result) -> Image.Image:
    """A row per layer in network order: its name, and a cell per unit, the darker the more important; red if cut.

    Where the method ranks nothing, all units that stay have one shade.
    """
    width = max(layer.total for layer in result.layers)
    cells_YXC = np.full((len(result.layers), width, 3), 255, np.uint8)
    for row, layer in enumerate(result.layers):
        cells_YXC[row, : layer.total] = np.asarray(BRIGHT) + _importance(result, layer) * (
            np.asarray(DARK) - np.asarray(BRIGHT)
        )
        cells_YXC[row, list(result.plan.cut(layer.name))] = CUT
    cell_width = max(2, min(CELL_HEIGHT, 640 // width))
    cells_YXC = cells_YXC.repeat(CELL_HEIGHT, axis=0).repeat(cell_width, axis=1)
    font = ImageFont.load_default()
    labels = [f"{layer.name}  {layer.kept}/{layer.total}" for layer in result.layers]
    margin = round(max(map(font.getlength, labels))) + 2 * LABEL_GAP
    image = Image.new("RGB", (margin + cells_YXC.shape[1], cells_YXC.shape[0]), "white")
    image.paste(Image.fromarray(cells_YXC), (margin, 0))
    draw = ImageDraw.Draw(image)
    for row, label in enumerate(labels):
        draw.text((LABEL_GAP, row * CELL_HEIGHT), label, fill="black", font=font)
    return image


def _importance(result: Result, layer: Layer) -> NDArray[np.float64]:
    """Scores of a layer's units as shares of the largest, [units, 1]; one half where there are none."""
    if result.scores is None:
        return np.full((layer.total, 1), 0.5)
    scores_X1 = np.asarray(result.scores[layer.name], float)[:, None]
    # A layer may have no score above zero, at the end of a long sparsification for instance.
    share_X1: NDArray[np.float64] = (scores_X1 / max(scores_X1.max(), 1e-12)).clip(0, 1)
    return share_X1
