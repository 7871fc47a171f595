"""LitServe over HTTP with one worker: a multipart form with a file in, bytes out.

LitServe reads a request as JSON or as a form, so that a file in a form is the shortest way for bytes.
"""

import sys
from typing import Any

from serving.benchmarks.engine import BareEngine


def main(model: str, port: str) -> None:
    """Serve until the process is ended."""
    import litserve
    from fastapi import Response

    class Api(litserve.LitAPI):
        def setup(self, device: str) -> None:
            self.engine = BareEngine(model)

        def decode_request(self, request: Any) -> bytes:
            return request["frame"].file.read()

        def predict(self, jpeg: bytes) -> bytes:
            return self.engine.segment(jpeg)

        def encode_response(self, mask: bytes) -> Response:
            return Response(mask, media_type="application/octet-stream")

    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
