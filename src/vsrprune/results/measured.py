"""What a job's machine measured: times, memory and what they were measured on. Unlike a result it is never the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vsrprune.errors import UserError
from vsrprune.results.fitting import check_fit
from vsrprune.store.sealed import read_sealed, write_sealed

MEASURED = "measured.json"
TORCH, AUTO = "torch", "auto"  # an engine, and all that were timed
DENSE_APART = 0.1  # by how much times of one dense network may differ before a note says so


@dataclass(frozen=True)
class Timing:
    """Milliseconds per frame of one network: median, fastest and slowest repeat, and the median without the flow net.

    `memory_format` is the one in which its frozen form was the fastest, and says so if its upsampler's
    kernels are fused and if it replays CUDA graphs.
    """

    ms: float
    ms_fastest: float
    ms_slowest: float
    ms_without_flow: float
    memory_format: str


@dataclass(frozen=True)
class Way:
    """In what a network is run: PyTorch (`torch`) or another engine, in a precision; and milliseconds per frame."""

    engine: str
    precision: str
    ms: float


@dataclass(frozen=True)
class Measured:
    """What was measured on one machine.

    `latency_ms` holds the times of the dense and the pruned network, which took turns, on frames of `frame_size`
    (height and width in pixels). `peak_memory_mib` holds the memory of both, weights included, None where the device
    does not tell; `reserved_memory_mib` what PyTorch took of a CUDA device in all, None for others. `clocks` are those
    of a CUDA device right after the networks were timed. `psnr_change_db` is what computing in `precision` changes in
    the PSNR of the fine-tuned network; None where the precision is 32 bits. `engine_ms` holds by engine (onnxruntime,
    openvino) the median milliseconds per frame on the CPU, of as many frames and repeats and all in turns, of the
    `dense` network and the fine-tuned one (`float32`, and `int8` where the job makes one); it is empty where no engine
    was asked for. `stage_seconds` holds the time of every stage by its name in the job; it is empty until the job's
    files are put together.
    """

    latency_ms: dict[str, Timing]
    peak_memory_mib: dict[str, float | None]
    precision: str
    compiled: bool
    frame_size: tuple[int, int]
    frames: int
    repeats: int
    threads: int
    device: str
    host: str
    processor: str
    git_commit: str
    versions: dict[str, str]
    psnr_change_db: float | None = None
    reserved_memory_mib: dict[str, float | None] = field(default_factory=dict)
    clocks: str = ""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    engine_ms: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def dense_ms(self) -> float:
        """Milliseconds per frame of the dense network."""
        return self.latency_ms["dense"].ms

    @property
    def pruned_ms(self) -> float:
        """Milliseconds per frame of the pruned network."""
        return self.latency_ms["pruned"].ms

    @property
    def speed_up(self) -> float:
        """How many times as fast as the dense network the pruned one is."""
        return self.dense_ms / self.pruned_ms

    @property
    def speed_up_without_flow(self) -> float:
        """The same of what is left of a frame without the flow net."""
        return self.latency_ms["dense"].ms_without_flow / self.latency_ms["pruned"].ms_without_flow

    def ways(self, engine: str, dense: bool = False) -> list[Way]:
        """In what the fine-tuned network, or the dense one, can be run, the fastest first.

        engine: as `evaluate.engine` says it; one that is named counts alone.
        """
        network = "dense" if dense else "pruned"
        found = [Way(TORCH, self.precision, self.latency_ms[network].ms)]
        for name, times in self.engine_ms.items():
            precisions = {"dense": "32"} if dense else {"float32": "32", "int8": "int8"}
            found += [Way(name, said, times[kind]) for kind, said in precisions.items() if kind in times]
        counted = [way for way in found if engine in (AUTO, way.engine)]
        return sorted(counted or found, key=lambda way: way.ms)

    def fastest_in_engines(self, kind: str) -> Way | None:
        """The engine that is fastest with a network of `engine_ms`; None where none ran it."""
        timed = [Way(name, kind, times[kind]) for name, times in self.engine_ms.items() if kind in times]
        return min(timed, key=lambda way: way.ms, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; `from_json` reads them back."""
        values = {**asdict(self), "frame_size": list(self.frame_size)}
        # Files of jobs without it are those of before it came.
        return values if self.engine_ms else {name: values[name] for name in values if name != "engine_ms"}

    def save(self, folder: Path) -> None:
        """Write measured.json into `folder`, atomically."""
        write_sealed(folder / MEASURED, self.to_json())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        """What `to_json` took apart. Raises KeyError, TypeError or ValueError for what is none."""
        latency = {name: Timing(**data["latency_ms"][name]) for name in ("dense", "pruned")}
        found = cls(**{**data, "latency_ms": latency, "frame_size": tuple(data["frame_size"])})
        check_fit(found, cls, "measured")
        return found

    @classmethod
    def load(cls, folder: Path) -> Measured:
        """Read measured.json from a job's folder. Raises UserError if there is none, or one of another version."""
        path = folder / MEASURED
        if not path.is_file():
            raise UserError(f"no {MEASURED} in {folder}")
        try:
            return cls.from_json(read_sealed(path))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: not what this version measures ({error}): run the job's command again, which writes a new one"
            ) from error


def timing_notes(measured: Sequence[Measured]) -> list[str]:
    """What a reader of times must know that were taken beside those of one dense network."""
    notes = []
    for size in dict.fromkeys(item.frame_size for item in measured):
        times = [item.dense_ms for item in measured if item.frame_size == size]
        apart = max(times) / min(times) - 1
        if apart > DENSE_APART:
            notes.append(
                f"the dense network took {min(times):.3g} to {max(times):.3g} ms per frame, {apart:.0%} apart: compare"
                " shares of its time, which was taken in turns with each run's, and no milliseconds of different runs"
            )
    threads = sorted({item.threads for item in measured})
    if len(threads) > 1:
        notes.append(f"times were taken with {' or '.join(map(str, threads))} threads, by which the shares differ too")
    return notes
