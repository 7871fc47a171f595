"""LitServe over HTTP with one worker: a multipart form with a file in, bytes out.

LitServe reads a request as JSON or as a form, so that a file in a form is the shortest way for bytes.
"""

import os
import sys
from typing import Any

from serving.benchmarks.engine import BareEngine

try:
    from litserve import LitAPI
except ImportError:  # in an environment that measures it, and does not hold it
    LitAPI = object


class Api(LitAPI):  # type: ignore[misc]
    """The engine as LitServe wants it."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self._engine = BareEngine(os.environ["ONEPIXEL_PEER_MODEL"])

    def decode_request(self, request) -> bytes:  # type: ignore[no-untyped-def]  # LitServe goes by the annotation
        """Return the JPEG."""
        return bytes(request["frame"].file.read())

    def predict(self, jpeg: bytes) -> bytes:
        """Return the mask."""
        return self._engine.segment(jpeg)

    def encode_response(self, mask: bytes) -> Any:
        """Return the answer."""
        from fastapi import Response

        return Response(mask, media_type="application/octet-stream")


def main(model: str, port: str) -> None:
    """Serve until the process is ended."""
    import litserve

    os.environ["ONEPIXEL_PEER_MODEL"] = model
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
