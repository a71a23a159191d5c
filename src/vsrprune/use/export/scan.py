"""A clip of any length as one ONNX graph: the graphs of a step inside Scan, ONNX's loop over frames.

torch.onnx would unroll the loop, so that a file served one length only. Frames are (T, 1, 3, H, W) inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, compose, helper

from vsrprune.engines.onnx_files import value_infos
from vsrprune.networks.graph import Graph

TIME_FIRST = [1, 0, 2, 3, 4]  # its own inverse


def clip_model(steps: Mapping[str, ModelProto], clip: Graph, branches: Sequence[str]) -> ModelProto:
    """Maps frames (1, T, 3, H, W) to (1, T, 3, scale*H, scale*W).

    steps: the models of a division's steps, by name.
    """
    # Scan goes along the first axis of what it reads, and clips have the batch there.
    nodes = [helper.make_node("Transpose", ["frames"], ["pictures"], perm=TIME_FIRST)]
    constants: list[TensorProto] = []
    if "step" in steps:
        nodes += _recurrence(steps["step"], branches[0], "upscaled_pictures", constants)
    else:
        for branch in branches:
            nodes += _recurrence(steps[f"{branch}_step"], branch, f"{branch}_states", constants)
        body = compose.add_prefix_graph(steps["upsampler"].graph, "upsampler/")
        states = [f"{branch}_states" for branch in branches]
        nodes.append(_scan(["pictures", *states], ["upscaled_pictures"], body, scanned=1 + len(states)))
    nodes.append(helper.make_node("Transpose", ["upscaled_pictures"], ["upscaled_frames"], perm=TIME_FIRST))
    graph = helper.make_graph(nodes, "clip", value_infos(clip.inputs), value_infos(clip.outputs), constants)
    some = next(iter(steps.values()))
    model = helper.make_model(graph, opset_imports=some.opset_import, ir_version=some.ir_version)
    onnx.checker.check_model(model)
    return model


def _recurrence(step: ModelProto, branch: str, result: str, constants: list[TensorProto]) -> list[NodeProto]:
    """A branch over all pictures: carries the previous frame and the state, and collects what the step gives first.

    The step's outputs are (state) or (upscaled frame, state); what is collected is its first output.
    """
    # Prefixes, because the bodies of two branches use the same names for their nodes and weights.
    body = compose.add_prefix_graph(step.graph, f"{branch}/")
    frame, previous_frame, previous_state = body.input
    first, state = body.output[0], body.output[-1]
    seen, collected = ValueInfoProto(), ValueInfoProto()
    seen.CopyFrom(frame)
    seen.name = f"{branch}/seen_frame"
    collected.CopyFrom(first)
    collected.name = f"{branch}/collected"
    # Copies under new names: what a loop carries on and what it collects must be outputs of their own, although the one
    # is an input and the other an output already.
    copies = [(frame.name, seen.name), (first.name, collected.name)]
    body.node.extend(helper.make_node("Identity", [source], [copy]) for source, copy in copies)
    looped = helper.make_graph(
        body.node, body.name, [previous_frame, previous_state, frame], [seen, state, collected], body.initializer
    )
    backward = branch == "backward"
    place, zero, channels = (f"{branch}_{name}" for name in ("first_index", "zero", "channels"))
    # The first frame on the branch's way is its own predecessor, with a state of zeros, so that no step is special.
    constants += [
        helper.make_tensor(place, TensorProto.INT64, [], [-1 if backward else 0]),
        helper.make_tensor(
            channels, TensorProto.INT64, [2], [d.dim_value for d in state.type.tensor_type.shape.dim][:2]
        ),
    ]
    shape, start = f"{branch}_shape", f"{branch}_first_frame"
    return [
        helper.make_node("Gather", ["pictures", place], [start], axis=0),
        helper.make_node("Shape", [start], [f"{branch}_size"], start=2),
        helper.make_node("Concat", [channels, f"{branch}_size"], [shape], axis=0),
        helper.make_node("ConstantOfShape", [shape], [zero]),
        _scan(
            [start, zero, "pictures"],
            [f"{branch}_last_frame", f"{branch}_last_state", result],
            looped,
            scanned=1,
            backward=backward,
        ),
    ]


def _scan(
    inputs: Sequence[str], outputs: Sequence[str], body: GraphProto, scanned: int, backward: bool = False
) -> NodeProto:
    return helper.make_node(
        "Scan",
        inputs,
        outputs,
        body=body,
        num_scan_inputs=scanned,
        scan_input_directions=[int(backward)] * scanned,
        scan_output_directions=[int(backward)],
    )
