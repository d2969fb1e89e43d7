"""In the place of PyTorch, several gigabytes that the compiler imports for ONNX files and does not use for them."""
