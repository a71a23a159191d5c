"""Write a trained network's files, verify them against PyTorch, time them, and only then give them their names."""

from __future__ import annotations

import platform
import shutil
import statistics
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsrprune.engines.extras import EXTRAS
from vsrprune.errors import UserError
from vsrprune.host.allocator import keep_freed_memory
from vsrprune.host.machine import measuring
from vsrprune.host.progress import StageProgress
from vsrprune.metrics.cost import network_cost
from vsrprune.metrics.latency import fastest_milliseconds, milliseconds
from vsrprune.networks.fast.fastest import freeze
from vsrprune.networks.files import DESCRIPTION, WEIGHTS, load_network, save_network
from vsrprune.networks.graph import ANY_LENGTH, Graph, divide, random_clip
from vsrprune.networks.network import Network
from vsrprune.networks.table import family_name
from vsrprune.store.atomic import write_json
from vsrprune.use.export.request import Request
from vsrprune.use.load import load_trained

DESCRIBED = "export.json"
TOLERANCE = 1e-4  # largest |difference| to PyTorch in float32
LENGTHS = (2, 5)  # frames of the clips that verify a graph of any length
CPU = torch.device("cpu")

Say = Callable[[str], None]
Compute = Callable[..., Any]  # tensors in, one or several tensors out


def export(request: Request, say: Say) -> Path:
    """The folder with the files; `export.json` in it says what they are.

    Raises UserError for wrong input, and where a file does not compute what the network computes.
    """
    request.check()
    return export_network(load_trained(request.source, request.store, say, request.which), request, say)


def export_network(network: Network, request: Request, say: Say) -> Path:
    """As `export`, of a network that is loaded."""
    least = network.arguments.smallest_side
    if min(request.size) < least:
        raise UserError(
            f"--size must be at least {least} {least} for this network; got {' '.join(map(str, request.size))}"
        )
    names = file_names(network, request)
    there = [name for name in names if (request.folder / name).exists()]
    if there and not request.overwrite:
        raise UserError(
            f"{request.folder / there[0]} is there already; --overwrite replaces it, --out names another folder"
        )
    with _unfinished(request.folder) as folder:
        described = WRITERS[request.format](network, request, folder, say)
        write_json(folder / DESCRIBED, {**_described(network, request), **described})
        for path in (path for path in folder.iterdir() if path.name not in names):  # the source of one's own network
            shutil.rmtree(request.folder / path.name, ignore_errors=True)
            path.replace(request.folder / path.name)
        for name in names:
            (folder / name).replace(request.folder / name)
    say(f"{', '.join(names)} in {request.folder}")
    return request.folder


def file_names(network: Network, request: Request) -> list[str]:
    """The files of an export, its description last."""
    if request.format == "safetensors":
        return [WEIGHTS, DESCRIPTION, DESCRIBED]
    suffix = {"onnx": ".onnx", "torch_export": ".pt2"}[request.format]
    return [*(f"{name}{suffix}" for name in ("clip", *divide(network, request.frames).steps)), DESCRIBED]


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A hidden folder in `folder`, gone afterwards: what is not verified never stands under its name."""
    inner = folder / f".unfinished-{uuid.uuid4().hex}"
    # Inside the target's folder, so that giving the files their names is a rename on one file system.
    inner.mkdir(parents=True)
    try:
        yield inner
    finally:
        shutil.rmtree(inner, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _described(network: Network, request: Request) -> dict[str, Any]:
    cost, arguments = network_cost(network, request.size), network.arguments
    libraries = ["torch", *(EXTRAS["deploy"] if request.format == "onnx" else []), *["openvino"] * request.openvino]
    return {
        "network": family_name(arguments),
        "format": request.format,
        "rule": None if network.plan is None else network.plan.rule,
        **({"bidirectional": arguments.goes_back} if arguments.branches else {}),
        "scale": arguments.scale,
        "colours": COLOURS,
        "smallest_side": arguments.smallest_side,
        "parameters": cost.parameters_with_flow,
        "macs_per_frame": {"size": list(cost.size), "macs": cost.macs, "macs_with_flow": cost.macs_with_flow},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
    }


COLOURS = "RGB in [0, 1], float32; outputs are not clipped"


def _write_safetensors(network: Network, request: Request, folder: Path, say: Say) -> dict[str, Any]:
    save_network(network, folder)
    again = load_network(folder).state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again[name], value, rtol=0, atol=0, equal_nan=True)
    return {"files": {WEIGHTS: {"max_abs_error": 0.0}}}


def _write_onnx(network: Network, request: Request, folder: Path, say: Say) -> dict[str, Any]:
    from vsrprune.engines import onnx_files
    from vsrprune.use.export import scan

    divided, least = divide(network, request.frames), network.arguments.smallest_side
    # Where there are steps, the clip becomes a loop over their graphs, and is not traced itself.
    traced = divided.steps or {"clip": divided.clip}
    clip = divided.looped if divided.steps else divided.clip
    models = {}
    with StageProgress("export", len(traced)) as progress:
        for name, graph in traced.items():
            models[name] = onnx_files.model(graph, least)
            progress.update(len(models), name)
    if divided.steps:
        models["clip"] = scan.clip_model(models, clip, network.arguments.branches)
    metadata = {"scale": str(network.arguments.scale), "colours": COLOURS, "smallest_side": str(least)}
    for name, model in models.items():
        onnx_files.save(model, folder / f"{name}.onnx", metadata)
    threads = torch.get_num_threads()
    files, engines = {}, {}
    for name, graph in {"clip": clip, **divided.steps}.items():
        file = folder / f"{name}.onnx"
        # The file is read back: what is verified is what lies on disk.
        run = _on_tensors(onnx_files.onnxruntime_runner(file, threads))
        files[file.name] = verified(graph, run, network, file.name, say)
        if name == "clip":
            engines["onnxruntime"] = run
    if request.openvino:
        run = _on_tensors(onnx_files.openvino_runner(folder / "clip.onnx", threads))
        engines["openvino"] = run
        files["clip.onnx"]["max_abs_error_openvino"] = errors(clip, run, network)
        say(f"clip.onnx in OpenVINO: max |error| {_largest(files['clip.onnx']['max_abs_error_openvino'].values()):.1e}")
    return {**_length(clip), "files": files, "milliseconds_per_frame": _timed(network, engines, request, say)}


def _write_torch_export(network: Network, request: Request, folder: Path, say: Say) -> dict[str, Any]:
    divided = divide(network, request.frames)
    graphs = {"clip": divided.clip, **divided.steps}
    files, engines = {}, {}
    with StageProgress("export", len(graphs)) as progress:
        for number, (name, graph) in enumerate(graphs.items(), start=1):
            file = folder / f"{name}.pt2"
            torch.export.save(graph.traced(network.arguments.smallest_side), file)
            loaded = torch.export.load(file).module()
            files[file.name] = verified(graph, loaded, network, file.name, say)
            if name == "clip":
                engines["torch_export"] = loaded
            progress.update(number, name)
    return {**_length(divided.clip), "files": files, "milliseconds_per_frame": _timed(network, engines, request, say)}


def _length(clip: Graph) -> dict[str, int | str]:
    """Of the clips that the file serves: a number, or any."""
    frames = clip.inputs["frames"][1]
    return {"frames": "any" if frames == ANY_LENGTH else frames}


WRITERS = {"safetensors": _write_safetensors, "onnx": _write_onnx, "torch_export": _write_torch_export}


def _on_tensors(run: Callable[[list[Any]], list[Any]]) -> Compute:
    return lambda *inputs: tuple(torch.from_numpy(array) for array in run([tensor.numpy() for tensor in inputs]))


def verified(graph: Graph, compute: Compute, network: Network, name: str, say: Say) -> dict[str, Any]:
    """What export.json says of a file; UserError if `compute` differs from the graph's module."""
    found = errors(graph, compute, network)
    worst = _largest(found.values())
    say(f"{name}: max |error| {worst:.1e} against PyTorch ({', '.join(found)})")
    if not worst <= TOLERANCE:  # also NaN
        raise UserError(f"{name} differs from PyTorch by {worst:.1e}, more than {TOLERANCE:g}; it was not kept")
    return {
        "inputs": {key: list(shape) for key, shape in graph.inputs.items()},
        "outputs": {key: list(shape) for key, shape in graph.outputs.items()},
        "dynamic_axes": sorted({side for shape in graph.inputs.values() for side in shape if isinstance(side, str)}),
        "max_abs_error": found,
    }


@torch.no_grad()
def errors(graph: Graph, compute: Compute, network: Network) -> dict[str, float]:
    """Largest |difference| to the graph's module, by size of the input: two sizes, one odd, and two lengths."""
    least = network.arguments.smallest_side
    found = {}
    # EDVR's sides are open without a proof by torch.export, so sizes that need padding and sizes that need none are
    # tried.
    for size, length in zip(((least, least + 18), (least + 31, least + 14)), LENGTHS, strict=True):
        inputs = graph.example(size, length)
        got, expected = _tensors(compute(*inputs)), _tensors(graph.module(*inputs))
        case = "x".join(map(str, inputs[0].shape))
        found[case] = _largest((g - e).abs().max() for g, e in zip(got, expected, strict=True))
    return found


def _largest(values: Iterable[Any]) -> float:
    """As max, which would lose a NaN that does not come first."""
    return float(torch.as_tensor(list(values)).max())


def _tensors(outputs: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@torch.inference_mode()
def _timed(network: Network, engines: Mapping[str, Compute], request: Request, say: Say) -> dict[str, Any]:
    """Median milliseconds per frame of the network's fastest form in PyTorch and of the engines, in turns."""
    if request.repeats == 0:
        return {}
    keep_freed_memory()
    clip_NTCHW = random_clip(request.frames, request.size)
    with measuring(lambda: say("waiting for other measurements of this machine")):
        frozen, _ = freeze(network, clip_NTCHW, partial(fastest_milliseconds, device=CPU))
        calls: dict[str, Compute] = {"pytorch": frozen, **engines}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            call(clip_NTCHW)  # warm: first calls are slower
        with StageProgress("timing", request.repeats) as progress:
            for repeat in range(request.repeats):
                # In turns, so that a machine that slows down meanwhile does so for all of them.
                for name, call in calls.items():
                    times[name].append(milliseconds(partial(call, clip_NTCHW), CPU) / request.frames)
                progress.update(repeat + 1)
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    words = ", ".join(f"{name} {ms:.4g}" for name, ms in medians.items())
    # The threads that every engine was given, so that their times compare.
    threads = torch.get_num_threads()
    say(f"ms per frame at {_words(request.size)}, {request.frames} frames, {threads} threads: {words}")
    return {"size": list(request.size), "frames": request.frames, "threads": threads, "median": medians}


def _words(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width}x{height}"
