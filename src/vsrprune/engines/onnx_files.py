"""ONNX files, and what runs them: onnxruntime and OpenVINO, which are the extras of their names."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from vsrprune.engines.network import Runner
from vsrprune.networks.graph import Graph, Shape


def model(graph: Graph, smallest: int) -> ModelProto:
    """The graph as ONNX, for frames of every size from `smallest` on."""
    program = graph.traced(smallest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision, which is not needed, is missing
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=list(graph.inputs), output_names=list(graph.outputs)
        )
    assert exported is not None
    proto = exported.model_proto
    for values, shapes in ((proto.graph.input, graph.inputs), (proto.graph.output, graph.outputs)):
        del values[:]  # the exporter calls the axes s44 and s48
        values.extend(value_infos(shapes))
    del proto.graph.value_info[:]  # which name them too; every reader infers these again
    # Half of a small network's file would be traces of Python code, with this machine's folders in them.
    for owner in (proto.graph, *proto.graph.node):
        del owner.metadata_props[:]
    onnx.checker.check_model(proto)
    return proto


def save(model: ModelProto, file: Path, metadata: Mapping[str, str]) -> None:
    """Write the model with `metadata` in it."""
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, file)


def onnxruntime_runner(file: Path | bytes, threads: int) -> Runner:
    """The model on the CPU; `file` is one, or what stands in one."""
    options = onnxruntime.SessionOptions()
    # As many as PyTorch has: the times of both are compared.
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda inputs: list(session.run(None, dict(zip(names, inputs, strict=True))))


def openvino_runner(file: Path | bytes, threads: int) -> Runner:
    """The same in OpenVINO, in float32: it would choose bfloat16 where the processor has it."""
    import openvino  # an extra of its own

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.compile_model(core.read_model(file), "CPU", settings)
    return lambda inputs: list(model(inputs).to_tuple())


RUNNERS: Mapping[str, Callable[[Path | bytes, int], Runner]] = {
    "onnxruntime": onnxruntime_runner,
    "openvino": openvino_runner,
}


def value_infos(shapes: Mapping[str, Shape]) -> list[ValueInfoProto]:
    """Inputs or outputs of a graph, as float32."""
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
