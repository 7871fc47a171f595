"""MLServer in one process, over the Open Inference Protocol's gRPC: one BYTES element in, one out."""

import asyncio
import os
import sys

from serving.benchmarks.engine import BareEngine

try:
    from mlserver import MLModel
except ImportError:  # in an environment that measures it, and does not hold it
    MLModel = object


class Runtime(MLModel):  # type: ignore[misc]
    """The engine as MLServer wants it."""

    async def load(self) -> bool:
        """Load the model."""
        self._engine = BareEngine(os.environ["ONEPIXEL_PEER_MODEL"])
        return True

    async def predict(self, payload):  # type: ignore[no-untyped-def]
        """Answer one frame."""
        from mlserver.types import InferenceResponse, ResponseOutput

        mask = self._engine.segment(payload.inputs[0].data.root[0])
        output = ResponseOutput(name="class_ids", shape=[1], datatype="BYTES", data=[mask])
        return InferenceResponse(model_name=self.name, outputs=[output])


def main(model: str, port: str) -> None:
    """Serve until the process is ended."""
    from mlserver import MLServer, ModelSettings, Settings

    os.environ["ONEPIXEL_PEER_MODEL"] = model
    settings = Settings(
        debug=False, parallel_workers=0, host="127.0.0.1", http_port=0, grpc_port=int(port), metrics_endpoint=None
    )
    implementation = "serving.benchmarks.peers.mlserver_app.Runtime"

    async def serve() -> None:
        await MLServer(settings).start([ModelSettings(name="segmentation", implementation=implementation)])

    asyncio.run(serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
