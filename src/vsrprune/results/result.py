"""One job's result: fields, units, JSON in and out. Analysis reads runs through this file alone (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.results.fitting import check_fit
from vsrprune.results.protocols import BICUBIC, OWN
from vsrprune.selection.budget import Budget
from vsrprune.store.sealed import read_sealed, write_sealed
from vsrprune.store.store import sha256

RESULT, METRICS = "result.json", "metrics.jsonl"
FILES = "files"  # in result.json: checksums of the files beside it
CROP_PLACES = "places.json"  # beside the crops: clip, frame index, top left corner and side of each, in pixels
CROP_KINDS = ("lr", "bicubic", "input", "dense", "pruned", "truth")  # in the order in which they are shown
FORMAT = 4
BELOW_BASELINE = (
    "The dense network's PSNR is below that of the baseline, which learned nothing: such a network is not trained well"
    " enough to tell what pruning costs."
)
NO_TRUTH = (
    "no truth was seen; PSNR, SSIM and temporal consistency are to the dense network's output, bicubic's too: they say"
    " what pruning changed, and not how good a picture is"
)
LEAST_GAIN, MOST_PHOTOMETRIC = 0.1, 1.0  # dB, quotient: beyond them a network says little about time


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
class Gates:
    """Largest and mean |gamma| over the cut units before the cut; filter norms where the penalty drives those."""

    max_cut: float
    mean_cut: float


@dataclass(frozen=True)
class Equivalence:
    """Largest difference between compact and masked network relative to max |output|, computed in either precision."""

    float64: float
    float32: float


@dataclass(frozen=True)
class HiddenError:
    """How far the hidden states of a branch are from the dense network's, by frame index.

    All three are RMS differences over the RMS of the dense state, means over the clips that reach a frame. Every
    channel of the dense state counts; one that is cut is zero, as which the rest of the network sees it.

    total: of the network's own state. made_here: of the state that its step makes if all states that the step reads are
    the dense network's. propagated: between these two states, which is what the errors of other steps add. The last two
    are None for a network whose steps cannot be run alone. Squares do not add up: the parts may lean on each other, or
    against.
    """

    total: list[float]
    made_here: list[float] | None
    propagated: list[float] | None


@dataclass(frozen=True)
class Int8:
    """The fine-tuned network with 8-bit integers in its convolutions, beside itself in 32 bits.

    `quality` is of the held-out clips, `test` of the test clips, None without any. `hidden_error` holds by branch how
    far its states are from those of the network in 32 bits. `kept_float` names the layers of the `convolutions` that
    stay in 32 bits, the most sensitive first. `loss_all_int8` and `loss` are the PSNR (dB) that int8 costs on the
    calibration clips: with integers everywhere, and as it is. `size` and `size_float32` are of the graphs' files, in
    bytes.
    """

    quality: Quality
    test: Quality | None
    hidden_error: dict[str, HiddenError]
    convolutions: int
    kept_float: list[str]
    loss_all_int8: float
    loss: float
    size: int
    size_float32: int

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Int8:
        """What `asdict` took apart."""
        (errors,) = hidden_errors({"": values["hidden_error"]}).values()
        test = values["test"] and Quality(**values["test"])
        return cls(**{**values, "quality": Quality(**values["quality"]), "test": test, "hidden_error": errors})


HiddenErrors = dict[str, dict[str, HiddenError]]  # by point ("after_cut", "finetuned"), then by branch


def hidden_errors(values: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> HiddenErrors:
    """The errors that `asdict` took apart."""
    return {
        point: {branch: HiddenError(**error) for branch, error in branches.items()}
        for point, branches in values.items()
    }


@dataclass(frozen=True)
class Result:
    """What a job found; deterministic. Times and latencies stand in measured.json beside it.

    `scale` is the side of the output relative to the input. `quality` holds that of `baseline` (see `baseline_name`),
    `dense`, `before_cut` (sparsified, gates as trained), `after_cut` (gates of cut units zero) and `finetuned`; `cost`
    holds that of `dense` and `pruned`. `scores` holds the scores of all units by layer, those of the last round.
    `hidden_error` holds the errors of the hidden states right after the cut (`after_cut`) and after fine-tuning
    (`finetuned`); it is empty for networks that are trained from scratch and for those without hidden states. `stages`
    holds the key of every stage.

    With data.truth=none no truth was seen: every quality is to the output of the dense network, that of `dense` too.

    `temporal_gain` is the PSNR (dB) of the dense network minus that of itself on every frame alone; None for a network
    that reads one frame at a time, and where no truth was seen. `flow_photometric` is the error between frames and
    neighbours warped by the dense network's flows, without the shift that all flows share, over that of neighbours as
    they are; None without a flow net that frames judge.

    `test` holds the quality of `baseline`, `dense` and `finetuned` on the clips of data.test, by which no choice is
    made; it is empty without such clips.

    `steps` counts the training steps after pretraining: of align, sparsify and fine-tuning; of a network from scratch
    those beyond schedule.pretrain.steps.

    `int8` is None where the job makes no int8 network.

    `gates` is None for one-shot methods, `scores` for methods that rank nothing, and `equivalence` for methods that
    train new weights.
    """

    knobs: dict[str, Any]
    rule: str
    scale: int
    quality: dict[str, Quality]
    cost: dict[str, Cost]
    layers: list[Layer]
    budget: Budget
    gates: Gates | None
    equivalence: Equivalence | None
    hidden_error: HiddenErrors
    scores: dict[str, list[float]] | None
    plan: PrunePlan
    stages: dict[str, str]
    steps: int
    notes: list[str]
    temporal_gain: float | None = None
    flow_photometric: float | None = None
    test: dict[str, Quality] = field(default_factory=dict)
    int8: Int8 | None = None
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
    def dense_below_baseline(self) -> bool:
        """Whether the dense network is worse than what outputs are to improve on."""
        return self.quality["dense"].psnr < self.quality["baseline"].psnr

    @property
    def time_caveats(self) -> list[str]:
        """As `time_caveats_of`, of this result alone."""
        return time_caveats_of([self])

    @property
    def baseline_name(self) -> str:
        """What quality["baseline"] is of: bicubic enlargement, or at scale 1 (tasks without sr) the input itself."""
        return "bicubic" if self.knobs["task"]["name"] == "sr" else "input"

    @property
    def sees_truth(self) -> bool:
        """Whether outputs were compared with the truth, and not with the dense network's for want of one."""
        return bool(self.knobs["data"].get("truth", "all") != "none")  # results of before had no such knob

    @property
    def convention(self) -> str:
        """What is not the default of how inputs were made and compared, as knobs in brackets; empty if all is."""
        task, data, protocol = self.knobs["task"], self.knobs["data"], self.knobs["evaluate"]["protocol"]
        options = {f"task.{name}": f"{value:g}" for name, value in task.items() if name != "name"}
        named = {
            "task": "" if task["name"] == "sr" else task["name"],
            **options,
            "evaluate.protocol": "" if protocol == OWN else protocol,
            "data.degradation": "" if data["degradation"] == BICUBIC[0] else data["degradation"],
            "data.low": "" if data["low"] == "bi" else data["low"],
            "data.crop": data["crop"],
            "data.truth": "" if self.sees_truth else "none",
        }
        given = [f"{name}={value}" for name, value in named.items() if value]
        return f" ({', '.join(given)})" if given else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; `from_json` reads them back."""
        values = {**asdict(self), "plan": self.plan.to_json(), "budget": self.budget.to_json()}
        if self.int8 is None:  # files of jobs without it are those of before it came
            del values["int8"]
        return values

    def save(self, folder: Path) -> None:
        """Write result.json into `folder`, atomically, with checksums of the curves and the crops that lie there."""
        beside = [path for path in (folder / METRICS, *sorted(folder.glob("crops/[!.]*"))) if path.is_file()]
        sums = {path.relative_to(folder).as_posix(): sha256(path) for path in beside}
        write_sealed(folder / RESULT, {FILES: sums, **self.to_json()})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """The result that `to_json` took apart. Raises UserError for another format, ValueError for wrong types."""
        if data.get("format") != FORMAT:
            raise UserError(
                f"result of format {data.get('format')!r}; this version reads format {FORMAT}: run the job's command"
                " again, which writes a new one"
            )
        found = cls(
            **{
                **data,
                "quality": {name: Quality(**quality) for name, quality in data["quality"].items()},
                "test": {name: Quality(**quality) for name, quality in data.get("test", {}).items()},
                "cost": {name: Cost.from_json(cost) for name, cost in data["cost"].items()},
                "layers": [Layer(**layer) for layer in data["layers"]],
                "budget": Budget.from_json(data["budget"]),
                "gates": data["gates"] and Gates(**data["gates"]),
                "equivalence": data["equivalence"] and Equivalence(**data["equivalence"]),
                "hidden_error": hidden_errors(data["hidden_error"]),
                "plan": PrunePlan.from_json(data["plan"]),
                "int8": Int8.from_json(data["int8"]) if "int8" in data else None,
            }
        )
        check_fit(found, cls, "result")
        return found

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read result.json from a job's folder. Raises UserError, with the file's name, if it cannot be used."""
        path = folder / RESULT
        try:
            values = read_sealed(path)
            values.pop(FILES, None)
            return cls.from_json(values)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged ({error!r}): run the job's command again, which writes a new one"
            ) from error


def check_files(folder: Path) -> None:
    """Raise UserError where a job's curves or crops are not those that lay there when its result was written."""
    for name, expected in read_sealed(folder / RESULT).get(FILES, {}).items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            what = "fails its checksum" if path.is_file() else "is missing"
            raise UserError(f"{path} {what}: run the job's command again, which writes a new one")


def truth_caveats_of(results: Sequence[Result]) -> list[str]:
    """What must be said beside any quality of results that saw no truth."""
    unseen = sum(not result.sees_truth for result in results)
    return [NO_TRUTH if unseen == len(results) else f"with data.truth=none {NO_TRUTH}"] if unseen else []


def time_caveats_of(results: Sequence[Result]) -> list[str]:
    """Why what results say of time (hidden error, temporal consistency, temporal loss) may mean little."""
    gains = [result.temporal_gain for result in results if result.temporal_gain is not None]
    errors = [result.flow_photometric for result in results if result.flow_photometric is not None]
    caveats = []
    if weak := [gain for gain in gains if gain < LEAST_GAIN]:
        use = "it hardly uses" if len(set(weak)) == 1 else "they hardly use"
        caveats.append(
            f"other frames are worth {_range(weak, '+')} dB to {_named(weak, gains)}, less than {LEAST_GAIN:g}: {use}"
            " time, so that errors over time and temporal losses say little here"
        )
    if wrong := [error for error in errors if error > MOST_PHOTOMETRIC]:
        owner = _named(wrong, errors)
        caveats.append(
            f"{owner}'{'' if owner.endswith('s') else 's'} flows do not follow motion: neighbours that they warp differ"
            f" from the frame {_range(wrong)} times as much as unwarped ones; errors over time and temporal losses say"
            " little here"
        )
    return caveats


def _named(some: Sequence[float], values: Sequence[float]) -> str:
    """The dense networks that have some of the values: equal numbers are of one network."""
    if len(some) < len(values):
        return "some of the dense networks"
    return "the dense network" if len(set(values)) == 1 else "the dense networks"


def _range(values: Sequence[float], sign: str = "") -> str:
    # `+ 0.0` makes 0 of a negative zero.
    ends = [f"{round(end, 2) + 0.0:{sign}.2f}" for end in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


def network_order(results: Sequence[Result]) -> list[Layer]:
    """The layers of all results once each.

    One that only some rules have stands after the layer of its part that goes before it, or first in its part.
    """
    order: list[Layer] = []
    # The result of the most layers gives the order, and others add what only they have.
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
