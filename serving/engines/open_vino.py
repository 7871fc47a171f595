"""OpenVINO as the engine, on a CPU, through its own API; needs the extra `openvino`.

It is compiled for one frame at a time, which is 5 to 8 % faster than for any number of them, and a batch gains nothing
on a CPU. Its bf16 halves the time on processors that have it.
"""

import functools
import threading
from typing import Any

import numpy as np

from serving.errors import InputError
from serving.frames import Pixels
from serving.settings import EngineSettings

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoEngine:
    """A compiled model of OpenVINO; one inference runs at a time, whichever thread asks.

    Parameters
    ----------
    content, source, input_size, settings
        As of `open_engine`.

    Raises
    ------
    InputError
        If OpenVINO is not installed, cannot compile the file, or the processor has not the precision.
    """

    def __init__(self, content: bytes, source: str, input_size: tuple[int, int], settings: EngineSettings) -> None:
        try:
            core = _core()
        except ModuleNotFoundError as error:
            raise InputError(
                "engine.backend: 'openvino' needs the extra 'openvino': pip install 'onepixel[serving,cpu,openvino]'"
            ) from error
        precision = PRECISIONS[settings.precision]
        properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": settings.threads,
        }
        try:
            model = core.read_model(content)
            model.reshape({"frames": [1, *input_size, 3]})
            compiled = core.compile_model(model, "CPU", properties)
        except RuntimeError as error:
            raise InputError(f"{source}: OpenVINO cannot compile it: {error}") from error
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if used != precision:
            raise InputError(f"engine.precision: OpenVINO has no '{settings.precision}' on this processor")
        self.provider = f"OpenVINO CPU {settings.precision}"
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        """Return `class_ids` and `confidence`, both uint8 [N, H, W], of `frames`, uint8 [N, H, W, 3] RGB."""
        answers = [self._run(frame[None]) for frame in frames]
        if len(answers) == 1:
            return answers[0]
        class_ids, confidence = zip(*answers, strict=True)
        return np.concatenate(class_ids), np.concatenate(confidence)

    def _run(self, frame: Pixels) -> tuple[Pixels, Pixels]:
        with self._lock:
            answer = self._request.infer({"frames": frame})
        return answer["class_ids"], answer["confidence"]


@functools.cache
def _core() -> Any:
    """Return the process's one OpenVINO: with one for each model, memory grew by 40 MB over 80 swaps."""
    import openvino

    return openvino.Core()
