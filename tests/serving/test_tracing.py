"""Spans as a collector gets them: a real one of OTLP, with the stubs alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc", reason="needs the extra telemetry")

import itertools

from onepixel.v1 import segmentation_pb2 as pb
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from serving import wire
from serving.frames import Pixels
from serving.model import Model
from serving.server import EMBEDDED, Server
from serving.settings import OperationSettings

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans: list[object] = []

    def Export(self, request: object, context: object) -> object:
        self.spans += [
            span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    server, collector = grpc.server(ThreadPoolExecutor(2)), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"127.0.0.1:{port}"
    server.stop(0)


def test_a_frame_stands_in_its_callers_trace(collector: tuple[Collector, str], model: Model, frame: Pixels) -> None:
    collected, endpoint = collector
    operations = OperationSettings(trace_endpoint=endpoint, trace_share=0)  # but what its caller traces
    server = Server(model, EMBEDDED.model_copy(update={"operations": operations}))
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.SegmentationServiceStub(channel)
        traced = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
        frames = [wire.frame_message(frame), wire.frame_message(b"no image")]
        stub.Segment(pb.SegmentRequest(frame=frames[0]))
        config = pb.StreamSegmentRequest(config=pb.StreamConfig())
        requests = [config, *(pb.StreamSegmentRequest(frame=frame) for frame in frames)]
        assert len(list(stub.StreamSegment(iter(requests), metadata=traced))) == 2
    server.stop(1)
    by_name = {span.name: span for span in collected.spans if span.status.code == 0}
    assert by_name.keys() == {"frame", "decode", "queue", "inference", "encode"} and len(collected.spans) == 6
    whole = by_name.pop("frame")
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (TRACE, PARENT)
    stages = [by_name[name] for name in ("decode", "queue", "inference", "encode")]
    assert {span.parent_span_id for span in stages} == {whole.span_id}
    assert stages[0].start_time_unix_nano == whole.start_time_unix_nano
    assert stages[-1].end_time_unix_nano == whole.end_time_unix_nano
    for before, after in itertools.pairwise(stages):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    (refused,) = (span for span in collected.spans if span.status.code)
    assert "InputError: image: text, beginning 'no image'" in refused.status.message
