"""Frames to masks with nothing around it: what a server is measured against, and what every peer runs.

It needs numpy, ONNX Runtime and simplejpeg alone, so that a peer's environment can hold it. The session's options are
those of `serving.model`.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import simplejpeg


class BareEngine:
    """JPEG in, mask out, on one thread.

    Parameters
    ----------
    path
        An exported ONNX file.
    """

    def __init__(self, path: Path | str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_size: tuple[int, int] = tuple(self._session.get_inputs()[0].shape[1:3])
        """Height and width, pixels."""

    def segment(self, jpeg: bytes) -> bytes:
        """Return the mask, class ids row by row, of a JPEG of the model's input size."""
        pixels = simplejpeg.decode_jpeg(jpeg, "RGB")
        class_ids: np.ndarray = self._session.run(["class_ids"], {"frames": pixels[None]})[0]
        return class_ids.tobytes()
