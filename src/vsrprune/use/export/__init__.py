"""A trained network as files for other programs: safetensors, ONNX, torch.export; verified before they are named."""
