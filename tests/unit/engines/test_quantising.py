"""Static quantisation: integers where they were asked for, outputs near the float ones, the same bytes every time."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from vsrprune.config.quantise import CALIBRATIONS
from vsrprune.engines.quantising import METHODS, Calibration, convolutions_of, quantised

SHAPE = [1, 3, "height", "width"]


def two_convolutions() -> ModelProto:
    """first -> ReLU -> second, of random weights, for frames of any size."""
    draw = np.random.default_rng(0)
    weights = {"first.weight": draw.normal(size=(8, 3, 3, 3)), "second.weight": draw.normal(size=(3, 8, 3, 3))}
    nodes = [
        helper.make_node("Conv", ["frame", "first.weight"], ["a"], "conv_1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "second.weight"], ["out"], "conv_2", pads=[1, 1, 1, 1]),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("frame", "out")]
    graph = helper.make_graph(nodes, "step", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def frame(seed: int, size: int = 12) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((1, 3, size, size + 2), dtype=np.float32)


def calibrated(method: str = "minmax") -> Calibration:
    calibration = Calibration(two_convolutions(), method)
    for seed in range(4):
        calibration.take_in([frame(seed)])
    return calibration


def output(model: ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"frame": inputs})
    return np.asarray(found)


def integer_weights(model: ModelProto) -> set[str]:
    return {item.name for item in model.graph.initializer if item.data_type == TensorProto.INT8 and item.dims[2:]}


def test_there_is_a_calibration_for_each_that_a_user_may_ask_for() -> None:
    assert tuple(METHODS) == CALIBRATIONS


@pytest.mark.parametrize("method", METHODS)
def test_an_int8_graph_computes_nearly_what_the_float_one_does(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    calibration = calibrated(method)
    model = quantised(calibration, calibration.ranges())
    assert integer_weights(model) == {"first.weight_quantized", "second.weight_quantized"}
    exact, rough = (output(each, frame(9, 16)) for each in (two_convolutions(), model))
    error = np.sqrt(np.square(rough - exact).mean() / np.square(exact).mean())
    assert capsys.readouterr().out == ""
    # Three feature maps of 256 steps over a range of about 8 RMS: 8 / 256 / sqrt(12) = 0.9 % each. entropy cuts tails.
    assert 0.001 < error < {"minmax": 0.03, "entropy": 0.3, "percentile": 0.03}[method]


def test_convolutions_are_told_by_their_weights_and_stay_float_where_asked() -> None:
    first, second = convolutions_of("step", two_convolutions())
    assert (first.name, second.name) == ("step/first", "step/second")
    calibration = calibrated()
    ranges = calibration.ranges()
    model = quantised(calibration, ranges, [first.node])
    assert integer_weights(model) == {"second.weight_quantized"}
    whole = quantised(calibration, ranges, [first.node, second.node])
    np.testing.assert_allclose(output(whole, frame(5)), output(two_convolutions(), frame(5)), rtol=0, atol=1e-6)


def test_the_same_inputs_make_the_same_bytes() -> None:
    one, two = (quantised(each, each.ranges()).SerializeToString() for each in (calibrated(), calibrated()))
    assert one == two


def test_the_range_is_that_of_all_inputs_together() -> None:
    calibration = Calibration(two_convolutions(), "minmax")
    runner = calibration.beside(lambda inputs: inputs)
    for value in (-2.0, 0.5, 3.0):
        (passed,) = runner([np.full((1, 3, 6, 6), value, np.float32)])
        assert float(passed.max()) == value
    lowest, highest = calibration.ranges()["frame"].range_value
    assert (lowest.item(), highest.item()) == (-2.0, 3.0)


def test_an_int8_graph_is_sound_onnx() -> None:
    calibration = calibrated()
    onnx.checker.check_model(quantised(calibration, calibration.ranges()))
