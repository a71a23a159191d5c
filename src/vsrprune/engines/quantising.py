"""int8 graphs of float ones, by onnxruntime's static quantisation: weights per filter, feature maps by their range.

A convolution reads and writes 8-bit integers, and onnxruntime adds integers where both sides of an addition are some.
Everything else stays in 32 bits: resizing, warps, positions.
"""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)

from vsrprune.engines.network import Arrays, Runner

CONV = "Conv"
METHODS: Mapping[str, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


@dataclass(frozen=True)
class Convolution:
    """A convolution of a graph: the graph's name, its node's, and the layer whose weights it has."""

    graph: str
    node: str
    layer: str

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.graph}/{self.layer}"


def convolutions_of(graph: str, model: ModelProto) -> list[Convolution]:
    """All convolutions of a graph, in its order."""
    return [
        Convolution(graph, node.name, node.input[1].removesuffix(".weight"))
        for node in model.graph.node
        if node.op_type == CONV
    ]


class Calibration:
    """The ranges of a graph's feature maps, from inputs that it is shown one after the other."""

    def __init__(self, model: ModelProto, method: str) -> None:
        self.model = onnx.shape_inference.infer_shapes(model)
        self._names = [value.name for value in model.graph.input]
        with tempfile.TemporaryDirectory() as folder:  # it reads the model from a file, and is done with it then
            file = Path(folder) / "model.onnx"
            onnx.save(self.model, file)
            augmented = str(Path(folder) / "augmented.onnx")
            self._calibrator = create_calibrator(file, [CONV], augmented, METHODS[method])

    def take_in(self, inputs: Arrays) -> None:
        """Widen the ranges by what these inputs (in the graph's order) give."""
        with _without_words():
            self._calibrator.collect_data(_Once(dict(zip(self._names, inputs, strict=True))))

    def beside(self, runner: Runner) -> Runner:
        """The runner, whose inputs are taken in."""

        def run(inputs: Arrays) -> Arrays:
            self.take_in(inputs)
            return runner(inputs)

        return run

    def ranges(self) -> Any:
        """What `quantised` reads; of all that was taken in."""
        with _without_words():
            return self._calibrator.compute_data()


def _without_words() -> AbstractContextManager[object]:
    """Onnxruntime prints what it does while it calibrates."""
    return redirect_stdout(io.StringIO())


class _Once(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, inputs: Mapping[str, NDArray[np.float32]]) -> None:
        self._left: Iterator[Mapping[str, NDArray[np.float32]]] = iter([inputs])

    def get_next(self) -> Mapping[str, NDArray[np.float32]] | None:
        return next(self._left, None)


def quantised(calibration: Calibration, ranges: Any, kept_float: Collection[str] = ()) -> ModelProto:
    """The graph in int8, but for the nodes of these names.

    Feature maps are unsigned and have a zero point, weights are signed and have a scale for each filter.
    """
    quantizer = QDQQuantizer(
        copy.deepcopy(calibration.model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=sorted(kept_float),
        op_types_to_quantize=[CONV],
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # new nodes stand at the end
    model: ModelProto = quantizer.model.model
    del model.graph.value_info[:]  # of the float graph; every reader infers these again
    return model
