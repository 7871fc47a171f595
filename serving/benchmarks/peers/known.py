"""The peers that can be measured: how each is started, and how it is asked."""

import shutil
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving.benchmarks.workload import MODEL_INFER, SEGMENT, segment_request
from serving.errors import InputError
from serving.wire import length_delimited

PACKAGE = Path(__file__).resolve().parents[2]
BOUNDARY = uuid.uuid5(uuid.NAMESPACE_URL, "onepixel").hex


@dataclass(frozen=True)
class Peer:
    """Another server."""

    module: str
    """Of this package, which starts it."""
    arguments: tuple[str, ...]
    """Of the module; {model}, {port} and {other_port} are filled in."""
    method: str
    """The gRPC method or the URL's path."""
    request: Callable[[bytes], bytes]
    """What carries a JPEG."""
    http: bool = False
    content_type: str = "application/octet-stream"
    warm_seconds: float = 2.0
    """Seconds of load before its figures are fair."""
    modules: tuple[str, ...] = ()
    """That its environment must hold, beside onnxruntime and simplejpeg."""
    own: bool = False
    """Whether this package's own environment holds it."""

    def command(self, python: str, model: Path, port: int, other_port: int) -> list[str]:
        """Return what starts it."""
        values = {"model": str(model), "port": str(port), "other_port": str(other_port)}
        return [python, "-m", f"{__package__}.{self.module}", *(text.format(**values) for text in self.arguments)]


def _field(number: int, data: bytes) -> bytes:
    """Encode a length-delimited field of a peer's message, to need none of its stubs."""
    return b"".join(length_delimited(number, [data]))


def _model_infer_request(jpeg: bytes) -> bytes:
    """Return the Open Inference Protocol's ModelInferRequest with one BYTES element."""
    tensor = _field(1, b"frame") + _field(2, b"BYTES") + _field(3, b"\1")
    return _field(1, b"segmentation") + _field(5, tensor) + _field(7, len(jpeg).to_bytes(4, "little") + jpeg)


def _predictions_request(jpeg: bytes) -> bytes:
    """Return TorchServe's PredictionsRequest."""
    return _field(1, b"segmentation") + _field(3, _field(1, b"data") + _field(2, jpeg))


def _form(jpeg: bytes) -> bytes:
    """Return a form with one file, `frame`."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="frame"; filename="frame.jpg"\r\n\r\n'
    return head.encode() + jpeg + f"\r\n--{BOUNDARY}--\r\n".encode()


PEERS = {
    "grpc": Peer("grpc_app", ("sync", "{model}", "{port}"), SEGMENT, segment_request, own=True),
    "grpc-aio": Peer("grpc_app", ("aio", "{model}", "{port}"), SEGMENT, segment_request, own=True),
    "mlserver": Peer(
        "mlserver_app",
        ("{model}", "{port}"),
        MODEL_INFER,
        _model_infer_request,
        modules=("mlserver",),
    ),
    "litserve": Peer(
        "litserve_app",
        ("{model}", "{port}"),
        "/predict",
        _form,
        http=True,
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
        modules=("litserve", "python_multipart"),
    ),
    "bentoml": Peer(
        "bentoml_app",
        ("{model}", "{port}"),
        "/segment",
        bytes,
        http=True,
        modules=("bentoml",),
    ),
    "kserve": Peer(
        "kserve_app",
        ("{model}", "{port}", "{other_port}"),
        MODEL_INFER,
        _model_infer_request,
        modules=("kserve",),
    ),
    "ray": Peer("ray_app", ("{model}", "{port}"), "/", bytes, http=True, modules=("ray[serve]",)),
    "torchserve": Peer(
        "torchserve_app",
        ("{model}", "{port}", "{other_port}"),
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
        _predictions_request,
        warm_seconds=20.0,
        modules=("ts", "torch"),
    ),
}
"""By the name that `--peer` takes."""


@dataclass(frozen=True)
class ChosenPeer:
    """A peer and the python of the environment that holds it."""

    name: str
    peer: Peer
    python: str

    @classmethod
    def parse(cls, text: str) -> "ChosenPeer":
        """Read NAME or NAME=PYTHON.

        Raises
        ------
        InputError
            If the name is unknown, or there is no such python.
        """
        name, _, python = text.partition("=")
        if name not in PEERS:
            raise InputError(f"--peer {text}: '{name}' is unknown; one of {', '.join(PEERS)}")
        peer = PEERS[name]
        if not python and not peer.own:
            raise InputError(
                f"--peer {text}: say which python holds it, such as --peer {name}=/opt/{name}/bin/python; its "
                f"environment needs {', '.join(peer.modules)}, onnxruntime and simplejpeg"
            )
        found = shutil.which(python or sys.executable)
        if found is None:
            raise InputError(f"--peer {text}: '{python}' is no program; give the python of the peer's environment")
        return cls(name, peer, str(Path(found).absolute()))  # unresolved: the link's place tells the environment


def copy_programs(folder: Path) -> None:
    """Copy what a peer's environment needs of this package: its program and the engine."""
    target = folder / PACKAGE.name
    for path in (PACKAGE / "__init__.py", *(PACKAGE / "benchmarks").glob("*.py"), *Path(__file__).parent.glob("*.py")):
        copy = target / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
