"""ONNX Runtime as the engine: on a CPU, or through CUDA or TensorRT on an NVIDIA GPU.

Measured on a CPU and left as they are, since they are worth nothing there: the memory arena, memory patterns, IO
binding, denormals, and a file that was optimised beforehand. Loading and running let other threads go on.
"""

import contextlib
import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime

from serving.errors import InputError
from serving.frames import Pixels
from serving.settings import EngineSettings

OUTPUTS = ("class_ids", "confidence")
LARGEST_BATCH = 16
"""Frames of an inference that TensorRT's engine is built for; more are run in parts, since to build takes minutes."""


class OnnxRuntimeEngine:
    """A session of ONNX Runtime; several threads may run it at the same time.

    Parameters
    ----------
    content, source, input_size, settings
        As of `open_engine`.

    Raises
    ------
    InputError
        If the device is not there, or ONNX Runtime cannot run the file on it.
    """

    def __init__(self, content: bytes, source: str, input_size: tuple[int, int], settings: EngineSettings) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.log_severity_level = 3  # errors; warnings of the optimiser are not the user's
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(settings.spinning)))
        providers = _providers(settings, input_size)
        self.provider, _ = providers[0]
        if settings.device != "cpu":
            _prepare_gpu(self.provider, settings.device)
        try:
            # Its own way back is to print, and to run on something slower.
            self._session = onnxruntime.InferenceSession(content, options, providers=providers, enable_fallback=0)
        except Exception as error:  # ONNX Runtime has a dozen kinds, with no base class of their own
            raise InputError(f"{source}: ONNX Runtime cannot load it: {error}") from error
        if (loaded := self._session.get_providers()[0]) != self.provider:
            raise InputError(f"engine.device: '{settings.device}' did not load, ONNX Runtime offers {loaded} instead")
        self._largest_batch = LARGEST_BATCH if settings.device == "tensorrt" else sys.maxsize

    def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        """Return `class_ids` and `confidence`, both uint8 [N, H, W], of `frames`, uint8 [N, H, W, 3] RGB."""
        if len(frames) <= self._largest_batch:
            return self._run(frames)
        starts = range(0, len(frames), self._largest_batch)
        parts = [self._run(frames[start : start + self._largest_batch]) for start in starts]
        class_ids, confidence = zip(*parts, strict=True)
        return np.concatenate(class_ids), np.concatenate(confidence)

    def _run(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        class_ids, confidence = self._session.run(OUTPUTS, {"frames": frames})
        return class_ids, confidence


class BoundEngine(OnnxRuntimeEngine):
    """A session whose frames and masks lie at fixed places of the device, one set for each size of a batch.

    That is what CUDA graphs need: the first inference of a size is recorded, the others replay the recording. A
    recording belongs to its thread, so that one thread runs them all.

    Parameters
    ----------
    content, source, input_size, settings
        As of `open_engine`.
    """

    def __init__(self, content: bytes, source: str, input_size: tuple[int, int], settings: EngineSettings) -> None:
        super().__init__(content, source, input_size, settings)
        self._place = "cpu" if settings.device == "cpu" else "cuda"
        self._bindings: dict[int, _Binding] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cuda-graphs")

    def _run(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        return self._thread.submit(self._replay, frames).result()

    def _replay(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        binding = self._bindings.get(len(frames))
        if binding is None:
            binding = self._bindings[len(frames)] = _Binding(self._session, frames.shape, self._place)
        return binding.run(frames)


class _Binding:
    """The places of the frames and masks of one size of batch."""

    def __init__(self, session: onnxruntime.InferenceSession, shape: tuple[int, ...], place: str) -> None:
        def reserve(shape: tuple[int, ...]) -> onnxruntime.OrtValue:
            return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, place, 0)

        self._session = session
        self._frames = reserve(shape)
        self._masks = [reserve(shape[:3]) for _ in OUTPUTS]
        self._io = session.io_binding()
        self._io.bind_ortvalue_input("frames", self._frames)
        for name, mask in zip(OUTPUTS, self._masks, strict=True):
            self._io.bind_ortvalue_output(name, mask)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(shape[0]))

    def run(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        self._frames.update_inplace(np.ascontiguousarray(frames))
        self._session.run_with_iobinding(self._io, self._options)
        class_ids, confidence = (mask.numpy().copy() for mask in self._masks)  # of a CPU, numpy() is a view
        return class_ids, confidence


def _providers(settings: EngineSettings, input_size: tuple[int, int]) -> list[tuple[str, dict[str, str]]]:
    """Return the execution providers in the order in which they take the network's nodes, with their options."""
    if settings.device == "cpu":
        return [("CPUExecutionProvider", {})]
    graphs = str(int(settings.cuda_graphs))
    cuda = {"use_tf32": str(int(settings.precision == "tf32"))}
    if settings.device == "cuda":
        return [("CUDAExecutionProvider", cuda | {"enable_cuda_graph": graphs})]
    sizes = "frames:{}x" + f"{input_size[0]}x{input_size[1]}x3"
    tensorrt = {
        "trt_fp16_enable": str(int(settings.precision == "fp16")),
        "trt_cuda_graph_enable": graphs,
        "trt_profile_min_shapes": sizes.format(1),
        "trt_profile_opt_shapes": sizes.format(1),
        "trt_profile_max_shapes": sizes.format(LARGEST_BATCH),
    }
    if settings.cache is not None:
        cache = {"trt_engine_cache_path": str(settings.cache), "trt_timing_cache_path": str(settings.cache)}
        tensorrt |= {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"} | cache
    return [("TensorrtExecutionProvider", tensorrt), ("CUDAExecutionProvider", cuda)]


def _prepare_gpu(provider: str, device: str) -> None:
    """Refuse a GPU that is not there, before ONNX Runtime does so in pages; load CUDA where pip has installed it."""
    if provider not in onnxruntime.get_available_providers() or not _has_nvidia_driver():
        raise InputError(
            f"engine.device: '{device}' needs an NVIDIA GPU with its driver, and the extra 'gpu'; use 'cpu'"
        )
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
        onnxruntime.preload_dlls()


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
