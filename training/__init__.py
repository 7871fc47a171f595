"""Offline: frames and one pixel per class in, pseudo labels, a DeepLab, and one ONNX file out."""

import serving  # noqa: F401 - which tells ONNX Runtime and MLflow to report nothing, before either is imported
