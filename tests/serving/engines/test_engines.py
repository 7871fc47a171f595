"""What every engine keeps, and how each refuses what it cannot do."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from serving.engines import Engine, onnx_runtime, open_engine, open_vino
from serving.engines.onnx_runtime import BoundEngine
from serving.errors import InputError
from serving.frames import Pixels
from serving.model import Model
from serving.settings import EngineSettings

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra 'openvino' is not installed"
)


@pytest.fixture(
    params=["onnxruntime", "bound", pytest.param("openvino", marks=needs_openvino)],
)
def engine(request: pytest.FixtureRequest, model_path: Path, model: Model) -> Engine:
    """Each engine with the tiny model; the bound one, which is for GPUs, with its buffers on the CPU."""
    content = model_path.read_bytes()
    if request.param == "bound":
        return BoundEngine(content, "tiny", model.input_size, EngineSettings(threads=1))
    return open_engine(content, "tiny", model.input_size, EngineSettings(backend=request.param, threads=1))


def random_frames(number: int) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, (number, 24, 32, 3), dtype=np.uint8)


def check(frames: Pixels, answer: tuple[Pixels, Pixels]) -> None:
    class_ids, confidence = answer
    assert class_ids.dtype == confidence.dtype == np.uint8
    assert np.array_equal(class_ids, frames.argmax(axis=3)) and np.array_equal(confidence, frames.max(axis=3))


def test_it_answers_for_batches_of_all_sizes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 3, 1, 2):
        check(random_frames(number), engine.infer(random_frames(number)))
    monkeypatch.setattr(engine, "_largest_batch", 2, raising=False)  # as of TensorRT, which takes more in parts
    check(random_frames(5), engine.infer(random_frames(5)))


def test_an_answer_stays_when_the_next_frame_is_run(engine: Engine) -> None:
    frames = random_frames(1)
    answer = engine.infer(frames)
    engine.infer(255 - frames)
    check(frames, answer)


def test_threads_may_share_it(engine: Engine) -> None:
    batches = [random_frames(1 + number % 3) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for frames, answer in zip(batches, pool.map(engine.infer, batches), strict=True):
            check(frames, answer)


@needs_openvino
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvino_runs_in_the_precision_that_it_is_told(model_path: Path, precision: str) -> None:
    settings = EngineSettings.model_validate({"backend": "openvino", "precision": precision})
    try:
        model = Model.load(model_path, settings=settings)
    except InputError as error:  # of a processor without bf16
        assert precision == "bf16" and "has no 'bf16' on this processor" in str(error)
    else:
        assert model.engine.provider == f"OpenVINO CPU {precision}"


@needs_openvino
def test_openvino_names_the_file_that_it_cannot_compile() -> None:
    with pytest.raises(InputError, match="no model: OpenVINO cannot compile it"):
        open_engine(b"no model", "no model", (24, 32), EngineSettings(backend="openvino"))


def test_openvino_that_is_not_installed_is_an_error(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_vino._core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match="needs the extra 'openvino': pip install"):
        Model.load(model_path, settings=EngineSettings(backend="openvino"))


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there_is_an_error(model_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match=rf"engine\.device: '{device}' needs an NVIDIA GPU"):
        Model.load(model_path, settings=EngineSettings.model_validate({"device": device}))


@pytest.mark.skipif(onnx_runtime._has_nvidia_driver(), reason="it would load")
def test_a_gpu_that_does_not_load_is_an_error(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where its libraries are missing: ONNX Runtime would go on with the CPU.
    monkeypatch.setattr(onnx_runtime, "_prepare_gpu", lambda *_: None)
    with pytest.raises(InputError, match=r"engine\.device: 'cuda' did not load"):
        Model.load(model_path, settings=EngineSettings(device="cuda"))
