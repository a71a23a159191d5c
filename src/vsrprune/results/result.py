"""One job's result: fields, units, JSON in and out. Analysis reads runs through this file alone (no torch)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vsrprune.errors import UserError
from vsrprune.results.protocols import BICUBIC, OWN
from vsrprune.store.atomic import write_json

RESULT, MEASURED, METRICS = "result.json", "measured.json", "metrics.jsonl"
CROP_PLACES = "places.json"  # beside the crops: clip, frame index, top left corner and side of each, in pixels
FORMAT = 1


@dataclass(frozen=True)
class Quality:
    """PSNR in dB and SSIM, mean over frames per clip, then over clips; `frames` holds PSNR per frame by clip.

    tof (pixels) and warping_error, beside that of the truth: see metrics.temporal; mean over pairs of frames per clip,
    then over clips; None where not measured.
    """

    psnr: float
    ssim: float
    clips: dict[str, dict[str, float]]
    frames: dict[str, list[float]]
    tof: float | None = None
    warping_error: float | None = None
    warping_error_truth: float | None = None


@dataclass(frozen=True)
class Cost:
    """Parameters; MACs per frame at `size` (height, width) of low resolution, without and with the flow net."""

    parameters: int
    parameters_with_flow: int
    macs: int
    macs_with_flow: int
    size: tuple[int, int]

    def without(self, macs: float, parameters: int) -> Cost:
        """The cost less so many MACs per frame and parameters."""
        return Cost(
            self.parameters - parameters,
            self.parameters_with_flow - parameters,
            round(self.macs - macs),
            round(self.macs_with_flow - macs),
            self.size,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cost:
        """The cost that `asdict` took apart."""
        return cls(**{**values, "size": tuple(values["size"])})


@dataclass(frozen=True)
class Layer:
    """Kept units of one layer (a group of units: kind and convolution)."""

    name: str
    part: str
    kind: str
    kept: int
    total: int


@dataclass(frozen=True)
class Result:
    """What a job found; deterministic. Times and latencies stand in measured.json beside it.

    quality: bicubic (see `baseline`), dense, before_cut (sparsified, gates as trained), after_cut (gates of cut units
    zero) and finetuned. cost: dense and pruned. gates: max and mean |gamma| over the cut set before the cut, or the
    norms of its filters where these are driven to zero; empty for one-shot methods. equivalence: largest difference
    between compact and masked network relative to max |output|, float64 and float32. hidden_error: by branch, RMS
    difference between pruned and dense hidden states relative to the dense RMS, per frame index. Both are empty for
    networks from scratch.
    scores: by layer, of all units, in the last round. stages: key of every stage.
    """

    knobs: dict[str, Any]
    rule: str
    quality: dict[str, Quality]
    cost: dict[str, Cost]
    layers: list[Layer]
    budget: dict[str, Any]
    gates: dict[str, float]
    equivalence: dict[str, float]
    hidden_error: dict[str, list[float]]
    scores: dict[str, list[float]]
    plan: dict[str, Any]
    stages: dict[str, str]
    notes: list[str]
    format: int = FORMAT

    @property
    def macs_kept(self) -> float:
        """Share of the dense network's MACs, flow net excluded."""
        return self.cost["pruned"].macs / self.cost["dense"].macs

    @property
    def units_cut(self) -> float:
        """Share of the units that are cut."""
        return 1 - sum(layer.kept for layer in self.layers) / sum(layer.total for layer in self.layers)

    @property
    def task(self) -> dict[str, Any]:
        """Its name and options; results from before there were others are of super-resolution."""
        task: dict[str, Any] = self.knobs.get("task", {"name": "sr"})
        return task

    @property
    def baseline(self) -> str:
        """What people call quality["bicubic"]: at scale 1 it is the quality of the input itself."""
        return "bicubic" if self.task["name"] == "sr" else "input"

    @property
    def convention(self) -> str:
        """What is not the default of how inputs were made and compared, as knobs in brackets; empty if all is."""
        data, protocol = self.knobs["data"], self.knobs.get("evaluate", {}).get("protocol", OWN)
        options = {f"task.{name}": f"{value:g}" for name, value in self.task.items() if name != "name"}
        named = {
            "task": "" if self.task["name"] == "sr" else self.task["name"],
            **options,
            "evaluate.protocol": ("" if protocol == OWN else protocol),
            "data.degradation": ("" if data.get("degradation", BICUBIC[0]) == BICUBIC[0] else data["degradation"]),
            "data.low": ("" if data.get("low", "bi") == "bi" else data["low"]),
            "data.crop": data.get("crop", 0),
        }
        given = [f"{name}={value}" for name, value in named.items() if value]
        return f" ({', '.join(given)})" if given else ""

    def save(self, folder: Path) -> None:
        """Write result.json into `folder`, atomically."""
        write_json(folder / RESULT, asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """The result that `asdict` took apart. Raises UserError for another format."""
        if data.get("format") != FORMAT:
            raise UserError(f"result of format {data.get('format')!r}; this version reads format {FORMAT}")
        values = dict(data)
        values["quality"] = {name: Quality(**quality) for name, quality in data["quality"].items()}
        values["cost"] = {name: Cost.from_json(cost) for name, cost in data["cost"].items()}
        values["layers"] = [Layer(**layer) for layer in data["layers"]]
        return cls(**values)

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read result.json from a job's folder."""
        return cls.from_json(json.loads((folder / RESULT).read_text()))


def network_order(results: Sequence[Result]) -> list[Layer]:
    """The layers of all results once each.

    One that only some rules have stands after the layer of its part that goes before it, or first in its part.
    """
    order: list[Layer] = []
    for result in sorted(results, key=lambda result: -len(result.layers)):
        before: Layer | None = None
        for layer in result.layers:
            if layer.name not in [known.name for known in order]:
                order.insert(_place(order, layer, before), layer)
            before = layer
    return order


def _place(order: Sequence[Layer], layer: Layer, before: Layer | None) -> int:
    if before is not None and before.part == layer.part:
        return [known.name for known in order].index(before.name) + 1
    parts = [known.part for known in order]
    return parts.index(layer.part) if layer.part in parts else len(parts)
