import dataclasses
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc
from PIL import Image

from serving.benchmarks.tiny_model import tiny_model
from serving.client import Client
from serving.frames import Pixels, encode_jpeg
from serving.model import Model
from serving.server import Server
from serving.settings import EngineSettings
from training.promotion.registry import Registry

HEIGHT, WIDTH = 24, 32


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class of a pixel: the strongest of red, green and blue; its confidence: that channel's value."""
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    path.write_bytes(tiny_model(HEIGHT, WIDTH))
    return path


@pytest.fixture(scope="session")
def model(model_path: Path) -> Model:
    return Model.load(model_path, settings=EngineSettings(threads=1))


@pytest.fixture
def gated(model: Model) -> Iterator[Model]:
    """The real model behind a gate, so that a test decides when an inference ends; counts its inferences."""

    class GatedModel(Model):
        gate = threading.Semaphore(0)
        entered = threading.Semaphore(0)
        count = 0

        def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
            type(self).count += 1
            self.entered.release()
            assert self.gate.acquire(timeout=20)
            return super().infer(frames)

    gated = GatedModel(**{field.name: getattr(model, field.name) for field in dataclasses.fields(model)})
    yield gated
    gated.gate.release(100)  # whatever a failed test left there


@pytest.fixture(scope="session")
def server(model: Model) -> Iterator[Server]:
    server = Server(model)
    server.start()
    yield server
    server.stop(grace=1)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture
def stub(server: Server) -> Iterator[pb_grpc.SegmentationServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield pb_grpc.SegmentationServiceStub(channel)


@pytest.fixture(scope="session")
def frame() -> Pixels:
    """A frame of twice the model's size, in blocks of eight, so that halving and doubling are exact."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A JPEG with enough in it that half of it has a whole header."""
    rng = np.random.default_rng(0)
    return encode_jpeg(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def huge_png() -> bytes:
    """A valid PNG of 10,000 x 10,000 pixels in a few kilobytes."""
    stream = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def bad_images(jpeg: bytes, huge_png: bytes) -> dict[str, tuple[bytes, str]]:
    """Bytes that are no frame, and what the error must say."""
    return {
        "half a JPEG": (jpeg[: len(jpeg) // 2], "JPEG is truncated"),
        "a JPEG's first bytes": (jpeg[:20], "JPEG header is truncated"),
        "a huge PNG": (huge_png, "10000 x 10000 = 100000000 pixels; the limit is 33554432"),
        "zero bytes": (b"", "0 bytes; send a JPEG, PNG or WEBP"),
        "a text file": (b"hello, camera\n", "text, beginning 'hello, camera"),
        "a GIF": (b"GIF89a" + bytes(20), "a GIF file; send a JPEG"),
    }


def register_three(registry: Registry, folder: Path) -> Pixels:
    """Register three files of the tiny model, which differ in their bytes alone; return their golden frame."""
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for number in range(3):
        model = onnx.load_from_string(tiny_model(HEIGHT, WIDTH))
        model.producer_version = str(number)
        onnx.save_model(model, folder / "model.onnx")
        registry.register(folder / "model.onnx", golden_frame=frame)
    return frame


def until(condition: Callable[[], object], patience: float = 30.0) -> None:
    limit = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)
