"""What runs a network, behind one small interface: frames in, masks out.

ONNX Runtime on a CPU or an NVIDIA GPU, or OpenVINO on a CPU. An engine that cannot run as it was told is an error,
never a slower one in its place.
"""

from typing import Protocol

from serving.frames import Pixels
from serving.settings import EngineSettings


class Infers(Protocol):
    """What turns frames of one size into masks; safe to use from several threads."""

    def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        """Return `class_ids` and `confidence`, both uint8 [N, H, W], of `frames`, uint8 [N, H, W, 3] RGB."""
        ...


class Engine(Infers, Protocol):
    """A network that is ready to run."""

    provider: str
    """What runs it, such as `CPUExecutionProvider` or `OpenVINO CPU bf16`."""


def open_engine(content: bytes, source: str, input_size: tuple[int, int], settings: EngineSettings) -> Engine:
    """Make what runs a network.

    Parameters
    ----------
    content
        The bytes of an ONNX file that keeps the contract.
    source
        Its name, for errors.
    input_size
        Height and width of its frames, pixels.
    settings
        Which engine, and how.

    Raises
    ------
    InputError
        If the engine is not installed, the device is not there, or it does not run the file as the settings say.
    """
    if settings.backend == "openvino":
        from serving.engines.open_vino import OpenVinoEngine

        return OpenVinoEngine(content, source, input_size, settings)
    from serving.engines.onnx_runtime import BoundEngine, OnnxRuntimeEngine

    return (BoundEngine if settings.cuda_graphs else OnnxRuntimeEngine)(content, source, input_size, settings)
