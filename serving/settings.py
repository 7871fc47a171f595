"""What a server is told: one frozen, validated object, from a file, the environment and the command line.

In that order, the later wins: a YAML file, variables such as `ONEPIXEL_SET_QUEUE__MAX_WAIT=2`, and
`--set queue.max_wait=2`. Secrets are in files that the settings name, so that the settings may be printed.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

from serving.addresses import without_password
from serving.configuration import apply_environment, apply_override, parse, read_text, validate
from serving.frames import MAX_PIXELS

ENVIRONMENT_PREFIX = "ONEPIXEL_SET_"  # no name that Kubernetes gives the variables of a service

Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class EngineSettings(_Section):
    """What runs the network; `onepixel tune` measures and writes this section (docs/tuning.md)."""

    backend: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """"openvino" needs the extra of that name, and runs on a CPU alone. In fp32 it takes 0.88 to 0.92 of the time."""
    device: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """"cuda" and "tensorrt" are the first NVIDIA GPU, by ONNX Runtime's providers of these names."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of one inference; 0 means one per physical core. Two take 0.55 of one's time."""
    precision: Literal["fp32", "tf32", "fp16", "bf16"] = "fp32"
    """Arithmetic of what the file holds in fp32. OpenVINO has bf16 (0.52 of the time), CUDA tf32, TensorRT fp16."""
    spinning: bool = False
    """Whether ONNX Runtime's idle threads keep their cores. Alone on the machine an inference takes 0.97 of the time;
    where others share the cores, as the decoding of the next frames does, up to 1.7 x."""
    cuda_graphs: bool = False
    """Whether the work of an inference is recorded once for each size of a batch, and replayed on the GPU."""
    cache: Path | None = None
    """Folder for TensorRT's built engines, which take minutes to build; None means that each start builds them."""

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        if self.backend == "openvino" and self.device != "cpu":
            raise ValueError(f"backend 'openvino' runs on device 'cpu', not on '{self.device}'")
        precisions = _PRECISIONS[self.backend if self.backend == "openvino" else self.device]
        if self.precision not in precisions:
            where = f"backend '{self.backend}' on device '{self.device}'"
            raise ValueError(f"{where} has no precision '{self.precision}'; it has {', '.join(precisions)}")
        if self.spinning and self.backend != "onnxruntime":
            raise ValueError("spinning is a setting of backend 'onnxruntime'")
        if self.cuda_graphs and self.device == "cpu":
            raise ValueError("cuda_graphs needs device 'cuda' or 'tensorrt'")
        if self.cache is not None and self.device != "tensorrt":
            raise ValueError("cache is a setting of device 'tensorrt'")
        return self


_PRECISIONS = {
    "cpu": ("fp32",),
    "cuda": ("fp32", "tf32"),
    "tensorrt": ("fp32", "fp16"),
    "openvino": ("fp32", "bf16"),
}


class QueueSettings(_Section):
    """How frames wait for the engine."""

    max_wait: Annotated[float, Field(gt=0)] = 1.0
    """Seconds that a frame may wait for the engine. By the measured time of an inference and the number of clients it
    follows how many frames each may have there; what would wait longer is refused."""
    max_batch: Count = 1
    """Frames of one inference at most. On a CPU a batch of N takes N times as long as one frame; a GPU gains."""
    batch_delay: Seconds = 0.0
    """Seconds that a frame waits for others to fill its batch."""


class Limits(_Section):
    """What a server allows at most."""

    max_pixels: Count = MAX_PIXELS
    """A frame's width x height, checked before it is decoded."""
    max_message_bytes: Annotated[int, Field(gt=0, lt=2**31)] = 2**25
    """A request's bytes. The default holds raw RGB frames up to 3840 x 2160."""
    places: Count = 64
    """Frames of single calls held at once, from arrival to mask."""
    max_streams: Annotated[int, Field(ge=0)] = 16
    """Streams at the same time."""
    max_streams_per_client: Count = 16
    """Streams of one client at the same time. A client is a token, a certificate's name, or else a connection."""
    max_clients: Count = 256
    """Clients with calls under way at the same time."""
    max_in_flight: Count = 16
    """The most frames that a stream may have the server hold."""
    default_in_flight: Count = 4
    """Frames held for a stream that does not say how many."""


class SecuritySettings(_Section):
    """Who may call; by default whoever reaches the address, in the clear."""

    certificate: Path | None = None
    """PEM file of the server's certificate chain; with it calls are encrypted. A file that is replaced is read anew."""
    private_key: Path | None = None
    """PEM file of its key."""
    client_authorities: Path | None = None
    """PEM file of the authorities whose clients are let in (mutual TLS)."""
    tokens: Path | None = None
    """File with a line `NAME TOKEN` for each client; calls then need the metadata `authorization: Bearer TOKEN`."""

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together; give both or none")
        if self.client_authorities and not self.certificate:
            raise ValueError("client_authorities needs certificate and private_key")
        return self


class RepositorySettings(_Section):
    """Where the models come from while the server runs."""

    poll_seconds: Annotated[float, Field(gt=0)] = 2.0
    """How often the file, the folder of models or the alias is looked at."""
    registry_uri: str | None = None
    """MLflow's URI for `models:/` names; None takes MLFLOW_TRACKING_URI. Needs the extra `registry`. It is printed
    without a password that it has."""
    cache: Path | None = None
    """Folder for the files of registered models, with which a server can start while the registry is away; None takes
    a temporary one."""
    hint_secret: Path | None = None
    """File with the secret of MLflow's webhooks, which are then taken at POST /hooks/mlflow of `metrics_address`: a
    signed one has the alias looked at soon. Nothing that it says is believed."""

    @field_serializer("registry_uri")
    def _printed(self, uri: str | None) -> str | None:
        return None if uri is None else without_password(uri)


class ShadowSettings(_Section):
    """A candidate that sees live frames beside the champion."""

    model: str | None = None
    """`models:/NAME@ALIAS` or `models:/NAME/VERSION`; None means no shadow."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the frames that it answers, where the processor has time."""
    report_seconds: Annotated[float, Field(gt=0)] = 30.0
    """How often its version's tag in the registry is written."""


class CollectSettings(_Section):
    """Frames that are kept for the next retraining."""

    folder: Path | None = None
    """Where; None keeps none. Frames are private: only the server's user may read it."""
    policy: Literal["uncertain", "uniform"] = "uncertain"
    """`uncertain` keeps those of which the model is least sure, `uniform` a fair sample."""
    limit: Count = 1000
    """Frames at most."""
    limit_bytes: Count = 2**30
    """Bytes at most."""
    seconds: Seconds = 1.0
    """At most one frame in so many seconds is looked at: those between are much like it."""


class OperationSettings(_Section):
    """What those who run the server see of it."""

    log_format: Literal["text", "json"] = "text"
    """How a log's line looks on standard error."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe that is logged."""
    hang_seconds: Annotated[float, Field(gt=0)] = 60.0
    """An inference that takes longer is taken for a hang: the server is no more alive."""
    trace_endpoint: str | None = None
    """HOST:PORT of an OpenTelemetry collector (OTLP over gRPC); needs the extra `telemetry`."""
    trace_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the frames that are traced, where their caller has not decided."""


class ServerSettings(_Section):
    """All of a server."""

    model: Path | None = None
    """An exported file, a folder of `<name>/<version>/model.onnx`, all of which are served, or `models:/NAME@ALIAS` of
    an MLflow registry."""
    name: str | None = None
    """What requests call the model of a file; none means by its path."""
    default_model: str | None = None
    """The model of requests that name none; needed where several are served."""
    address: str = "127.0.0.1:50051"
    """HOST:PORT to listen at; port 0 takes a free one."""
    metrics_address: str = "127.0.0.1:8002"
    """HOST:PORT of Prometheus' metrics, /livez and /readyz over HTTP; empty means none."""
    grace: Seconds = 10.0
    """Seconds that draining may take."""
    engine: EngineSettings = EngineSettings()
    queue: QueueSettings = QueueSettings()
    limits: Limits = Limits()
    security: SecuritySettings = SecuritySettings()
    repository: RepositorySettings = RepositorySettings()
    operations: OperationSettings = OperationSettings()
    shadow: ShadowSettings = ShadowSettings()
    collect: CollectSettings = CollectSettings()

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.registered and self.name is not None:
            raise ValueError(f"name: '{self.name}' is for the model of a file; {self.model} has the registry's")
        if self.repository.hint_secret is not None and not (self.registered and self.metrics_address):
            raise ValueError("repository.hint_secret needs a model of a registry, and metrics_address to take webhooks")
        return self

    @property
    def registered(self) -> bool:
        """Whether `model` is one of a registry."""
        return str(self.model or "").startswith("models:/")


def load_server_settings(
    path: Path | None = None, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> ServerSettings:
    """Read the settings of a server.

    Parameters
    ----------
    path
        A YAML file; None means none.
    overrides
        `key=value` texts, dots lead into sections.
    environment
        Variables; those that begin with `ONEPIXEL_SET_` count.

    Raises
    ------
    InputError
        On an unreadable file, an unknown key or an impossible value.
    """
    source = str(path) if path else "settings"
    tree = parse(read_text(path), source) if path else {}
    apply_environment(tree, environment or {}, ENVIRONMENT_PREFIX)
    for override in overrides:
        apply_override(tree, override, "queue.max_wait=2")
    return validate(ServerSettings, tree, source, tuple(overrides))
