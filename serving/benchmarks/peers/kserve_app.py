"""KServe's model server in one process, over the Open Inference Protocol's gRPC: one BYTES element in, one out."""

import logging
import sys

import numpy as np

from serving.benchmarks.engine import BareEngine

try:
    from kserve import Model
except ImportError:  # in an environment that measures it, and does not hold it
    Model = object


class Segmentation(Model):  # type: ignore[misc]
    """The engine as KServe wants it."""

    def __init__(self, model: str) -> None:
        super().__init__("segmentation")
        self._engine = BareEngine(model)
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):  # type: ignore[no-untyped-def]
        """Answer one frame."""
        from kserve import InferOutput, InferResponse

        mask = self._engine.segment(payload.inputs[0].as_numpy()[0])
        output = InferOutput("class_ids", [1], "BYTES")
        output.set_data_from_numpy(np.array([mask], np.object_))
        return InferResponse(payload.id, self.name, [output])


def main(model: str, port: str, http_port: str) -> None:
    """Serve until the process is ended."""
    from kserve import ModelServer

    server = ModelServer(http_port=int(http_port), grpc_port=int(port), workers=1, enable_latency_logging=False)
    logging.getLogger("kserve").setLevel(logging.WARNING)  # else two lines a frame
    server.start([Segmentation(model)])


if __name__ == "__main__":
    main(*sys.argv[1:])
