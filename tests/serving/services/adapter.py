"""A frontend of one model; `python -m tests.serving.services.adapter MODEL` serves it and prints its address."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
from onepixel.oip import open_inference_pb2_grpc as pb_grpc

from serving.batching import InferenceQueue
from serving.frames import MAX_PIXELS, resize_frame
from serving.model import Model
from serving.services.answers import UnknownModel
from serving.services.open_inference import OpenInference
from serving.services.tensors import Answer, Frame

MAX_FRAMES = 4


class OneModel:
    def __init__(self, model: Model, queue: InferenceQueue) -> None:
        self._model, self._queue = model, queue
        self.loading = False

    def model(self, name: str, version: str) -> Model:
        if name not in ("", self._model.name) or version not in ("", self._model.version):
            raise UnknownModel(f"'{name}' {version} is not served")
        return self._model

    def models(self) -> list[Model]:
        return [] if self.loading else [self._model]

    def segment(self, model: Model, frames: Sequence[Frame], context: grpc.ServicerContext) -> list[Answer]:
        with self._queue.reserve(len(frames)):
            pixels = [frame() for frame in frames]
            futures = [self._queue.submit(resize_frame(frame, *model.input_size)) for frame in pixels]
            return [
                SimpleNamespace(
                    class_ids=future.result().class_ids,
                    confidence=future.result().confidence,
                    height=frame.shape[0],
                    width=frame.shape[1],
                )
                for future, frame in zip(futures, pixels, strict=True)
            ]


@contextmanager
def serving(model: Model) -> Iterator[tuple[OneModel, str]]:
    queue = InferenceQueue(model, capacity=MAX_FRAMES)
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    frontend = OneModel(model, queue)
    service = OpenInference(frontend, max_pixels=MAX_PIXELS, max_frames=MAX_FRAMES)
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield frontend, f"127.0.0.1:{port}"
    server.stop(0).wait()
    queue.close()


if __name__ == "__main__":
    with serving(Model.load(sys.argv[1], threads=1)) as (_, address):
        print(address, flush=True)
        sys.stdin.read()
