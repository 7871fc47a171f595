"""TorchServe's handler: `handle` is what its archive names; the model lies in the archive beside it."""

from pathlib import Path
from typing import Any

from serving.benchmarks.engine import BareEngine

_engine: BareEngine | None = None


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
    """Answer a batch of frames; the first call, with no data, loads the model."""
    global _engine
    if _engine is None:
        folder = Path(context.system_properties["model_dir"])
        _engine = BareEngine(folder / context.manifest["model"]["serializedFile"])
    if data is None:
        return None
    return [_engine.segment(bytes(entry["data"])) for entry in data]
