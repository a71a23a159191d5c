"""CUDA graphs: what a frozen network does again and again is recorded once, and replayed without its launches.

A small network's step is some hundred kernels of a few microseconds, and launching one takes as long. A graph holds the
kernels with the addresses of what they read and write, so that inputs are copied to where they were when it was
recorded, and outputs are copied out before the next replay writes over them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

KEPT = 48  # graphs of a network; BasicVSR has six for each size of frames
WARM_CALLS = 2  # before a capture: libraries choose their kernels and allocate in the first
UNLAUNCHED_CALLS = 20  # of an operation in one graph, so that the launch of the graph itself hardly counts


class Caller(Protocol):
    """Runs a function of tensors, as it is or otherwise, with the same result."""

    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """`function(*inputs)`. The function is a bound method or a module: it is known by being equal."""


def direct(function: Callable[..., Any], *inputs: Any) -> Any:
    """The `Caller` that calls."""
    return function(*inputs)


class Recording(Protocol):
    """A call that was recorded: `replay` computes it anew from what its inputs then hold, into the same `outputs`."""

    outputs: Any

    def replay(self) -> None:
        """Write the outputs."""


Recorder = Callable[[Callable[[], Any]], Recording]


class Graphs:
    """A `Caller` that records a function for each shape of its inputs and replays it.

    Inputs and outputs are tensors, None, and dicts, tuples and lists of them. Nothing that is returned is written
    again, and nothing that is given is kept. The graphs that were used last are
    kept, `kept` of them.
    """

    def __init__(self, record: Recorder, kept: int = KEPT) -> None:
        self._record, self._kept = record, kept
        self._graphs: OrderedDict[Hashable, tuple[Any, Recording]] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """See `Caller`."""
        key = (function, _signature(inputs))
        if key not in self._graphs:
            places = _mapped(_place, inputs)
            _copy(inputs, places)
            self._graphs[key] = places, self._record(lambda: function(*places))
            while len(self._graphs) > self._kept:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        places, recording = self._graphs[key]
        _copy(inputs, places)
        recording.replay()
        # Copies, made before anything else can be replayed: that is why all graphs may share their memory too.
        return copied(recording.outputs)

    def __len__(self) -> int:
        return len(self._graphs)

    def forget(self) -> None:
        """Give the memory of all graphs back; what is called next is recorded anew."""
        self._graphs.clear()


class CudaRecorder:
    """Captures calls on a CUDA device; all its graphs share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._pool = device, torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def __call__(self, call: Callable[[], Any]) -> CudaRecording:
        """The call, captured. Raises RuntimeError if it cannot be, for instance since it waits for the device."""
        stream, graph = self._stream, torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream(self._device))
        # The outer context gives the stream back where a capture fails.
        with torch.cuda.device(self._device), torch.cuda.stream(stream):
            for _ in range(WARM_CALLS):
                call()
            # thread_local: other threads may go on to copy and allocate, as those do that read and write videos.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                outputs = call()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return CudaRecording(graph, call, outputs)


class CudaRecording:
    """A captured graph and the tensors that it writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, call: Callable[[], Any], outputs: Any) -> None:
        self._graph, self.outputs = graph, outputs
        # The graph holds addresses alone: the tensors that the call reads must live as long as it does.
        self._call = call

    def replay(self) -> None:
        """See `Recording`."""
        self._graph.replay()


def recorder_of(device: torch.device) -> Recorder | None:
    """What records calls on a device; None where there is nothing of the kind."""
    return CudaRecorder(device) if device.type == "cuda" else None


def time_unlaunched(
    call: Callable[[], object], time: Callable[[Callable[[], object]], float], record: Recorder | None
) -> float:
    """Milliseconds that a call computes, without its launches where they can be left out.

    With a recorder a graph of several calls is timed, so that arithmetic is seen; without one, and where a capture
    fails, the call itself. time: milliseconds of a call.
    """
    if record is None:
        return time(call)

    def calls() -> None:
        for _ in range(UNLAUNCHED_CALLS):
            call()

    try:
        recording = record(calls)
    except RuntimeError:
        return time(call)
    return time(recording.replay) / UNLAUNCHED_CALLS


def copied(values: Any) -> Any:
    """Copies of all tensors."""
    return _mapped(torch.clone, values)


def in_plain_strides(values: Any) -> Any:
    """All tensors with the strides of new ones: a slice of a clip has others, which depend on the clip's length."""
    return _mapped(lambda value: value.contiguous().flatten().view(value.shape) if _is_plain(value) else value, values)


def _mapped(change: Callable[[Tensor], Any], value: Any) -> Any:
    """`value` with every tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _mapped(change, item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_mapped(change, item) for item in value)
    assert value is None, f"graphs take tensors; got {type(value).__name__}"
    return None


def _copy(source: Any, target: Any) -> None:
    """Copy every tensor of `source` into that at its place in `target`."""
    if isinstance(source, Tensor):
        target.copy_(source)
    elif isinstance(source, Mapping):
        for name, item in source.items():
            _copy(item, target[name])
    elif isinstance(source, tuple | list):
        for item, place in zip(source, target, strict=True):
            _copy(item, place)


def _signature(inputs: Any) -> Hashable:
    """What a recording holds for: structure, shapes, types and memory formats."""
    if isinstance(inputs, Mapping):
        return tuple((name, _signature(item)) for name, item in inputs.items())
    if isinstance(inputs, tuple | list):
        return tuple(map(_signature, inputs))
    return None if inputs is None else (inputs.shape, inputs.dtype, inputs.device, _format(inputs))


def _place(value: Tensor) -> Tensor:
    """Memory for a tensor of this kind; a slice of a clip gets memory without gaps."""
    return torch.empty(value.shape, dtype=value.dtype, device=value.device, memory_format=_format(value))


def _format(value: Tensor) -> torch.memory_format:
    return torch.contiguous_format if _is_plain(value) else torch.channels_last


def _is_plain(value: Tensor) -> bool:
    last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return value.is_contiguous() or not last
