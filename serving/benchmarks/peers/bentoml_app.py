"""BentoML over HTTP with one worker: the JPEG is the body, and so is the mask."""

import os
import sys
from pathlib import Path

from serving.benchmarks.engine import BareEngine

try:
    import bentoml
except ImportError:  # in an environment that measures it, and does not hold it
    bentoml = None

if bentoml is not None:

    @bentoml.service(name="segmentation", workers=1, logging={"access": {"enabled": False}})
    class Segmentation:
        """The engine as BentoML wants it."""

        def __init__(self) -> None:
            self._engine = BareEngine(os.environ["ONEPIXEL_PEER_MODEL"])

        @bentoml.api  # type: ignore[untyped-decorator]
        def segment(self, jpeg: bytes, /) -> bytes:
            """Answer one frame."""
            return self._engine.segment(jpeg)


def main(model: str, port: str) -> None:
    """Serve until the process is ended."""
    os.environ["ONEPIXEL_PEER_MODEL"] = model
    program = Path(sys.executable).parent / "bentoml"
    command = [str(program), "serve", f"{__package__}.bentoml_app:Segmentation"]
    os.execv(program, [*command, "--host", "127.0.0.1", "--port", port])


if __name__ == "__main__":
    main(*sys.argv[1:])
