"""Ray Serve over HTTP with one replica: the JPEG is the body, and so is the mask."""

import sys
from typing import Any

from serving.benchmarks.engine import BareEngine


class Segmentation:
    """The engine as Ray Serve wants it."""

    def __init__(self, model: str) -> None:
        self._engine = BareEngine(model)

    async def __call__(self, request: Any) -> Any:
        """Answer one frame."""
        from starlette.responses import Response

        return Response(self._engine.segment(await request.body()), media_type="application/octet-stream")


def main(model: str, port: str) -> None:
    """Serve until the process is ended."""
    import ray
    from ray import serve

    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(serve.deployment(Segmentation).options(num_replicas=1).bind(model), route_prefix="/", blocking=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
