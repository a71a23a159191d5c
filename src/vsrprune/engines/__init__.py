"""Networks as ONNX graphs in the engines that people deploy with, in 32 bits and in int8."""
