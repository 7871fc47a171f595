"""Offline: frames and one pixel per class in, pseudo labels, a DeepLab, and one ONNX file out."""
