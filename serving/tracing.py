"""OpenTelemetry traces, as an option: a span for each frame, and one in it for each stage.

A caller's `traceparent` metadata (W3C Trace Context) becomes the parent, so that a frame's time on the server stands in
the camera's own trace. Needs the extra `telemetry`; without an endpoint nothing of it is imported.
"""

import threading
import time
from typing import TYPE_CHECKING

from serving.batching import Inference
from serving.errors import InputError
from serving.settings import OperationSettings

if TYPE_CHECKING:
    from serving.services.answers import Started
    from serving.services.statuses import Caller


class Tracer:
    """Sends spans to a collector, on a thread of its own.

    Parameters
    ----------
    settings
        Its `trace_endpoint` and `trace_share`.

    Raises
    ------
    InputError
        If the extra is not installed.
    """

    def __init__(self, settings: OperationSettings) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError as error:
            raise InputError(
                f"operations.trace_endpoint: needs the module '{error.name}': pip install 'onepixel[telemetry]'"
            ) from error
        exporter = OTLPSpanExporter(endpoint=settings.trace_endpoint, insecure=True)
        sampler = ParentBased(TraceIdRatioBased(settings.trace_share))
        self._provider = TracerProvider(sampler=sampler, resource=Resource.create({"service.name": "onepixel"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("onepixel.serving")
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    def answered(self, started: "Started", inference: Inference, encode_ns: int) -> None:
        """Record a frame that has just been answered, with its stages."""
        ended = time.time_ns()
        model = started.model
        attributes: dict[str, str | int] = {
            "onepixel.client": started.caller.client,
            "onepixel.model": model.name,
            "onepixel.model_version": model.version,
            "onepixel.batch": inference.batch,
            "onepixel.pixels": started.height * started.width,
        }
        before = started.decode_ns + inference.queued_ns + inference.inference_ns + encode_ns
        at = ended - before
        parent = self._propagator.extract(started.caller.metadata)
        span = self._tracer.start_span("frame", parent, start_time=at, attributes=attributes)
        within = self._trace.set_span_in_context(span, parent)
        for stage, nanoseconds in (
            ("decode", started.decode_ns),
            ("queue", inference.queued_ns),
            ("inference", inference.inference_ns),
            ("encode", encode_ns),
        ):
            child = self._tracer.start_span(stage, within, start_time=at)
            at += nanoseconds
            child.end(at)
        span.end(ended)

    def refused(self, caller: "Caller", error: Exception) -> None:
        """Record a frame that has no mask."""
        parent = self._propagator.extract(caller.metadata)
        span = self._tracer.start_span("frame", parent, attributes={"onepixel.client": caller.client})
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, f"{type(error).__name__}: {str(error)[:300]}"))
        span.end()

    def close(self, timeout: float) -> None:
        """Send what is recorded, for `timeout` seconds at most."""
        # On a thread of its own: where the collector is away the exporter tries again for longer than it is told.
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(timeout)
