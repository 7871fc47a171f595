"""What those who run a server see: metrics, liveness and readiness over HTTP, and the log."""

import io
import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onepixel.v1 import segmentation_pb2 as pb
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc
from prometheus_client.parser import text_string_to_metric_families

from serving import server as server_module
from serving import wire
from serving.client import Client, ServerError
from serving.frames import Pixels
from serving.logs import JsonFormatter
from serving.model import Model
from serving.server import EMBEDDED, Server
from serving.settings import Limits, OperationSettings, QueueSettings, ServerSettings


def settings(**sections: object) -> ServerSettings:
    return EMBEDDED.model_copy(update={"metrics_address": "127.0.0.1:0", **sections})


@pytest.fixture
def watched(model: Model) -> Iterator[Server]:
    server = Server(model, settings())
    server.start()
    yield server
    server.stop(0)


def get(server: Server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.metrics_address}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(server: Server) -> dict[str, float]:
    """Return the samples by name and the labels' values."""
    families = text_string_to_metric_families(get(server, "/metrics")[1])
    samples = [sample for family in families for sample in family.samples]
    return {" ".join([sample.name, *sorted(sample.labels.values())]): sample.value for sample in samples}


def test_every_frame_is_counted(watched: Server, model: Model, frame: Pixels) -> None:
    with Client(watched.address) as client:
        client.segment(frame)
        with pytest.raises(ServerError):
            client.segment(b"no image")
        assert [outcome.error is None for outcome in client.stream([frame, b"no image", frame])] == [True, False, True]
    told = metrics(watched)
    assert told["onepixel_frames_received_total"] == 5
    assert told["onepixel_frames_total 1 mask tiny"] == told["onepixel_inferences_total 1 tiny"] == 3
    assert sum(value for name, value in told.items() if name.startswith("onepixel_frames_total ")) == 5
    for stage in ("decode", "queue", "inference", "encode"):
        assert told[f"onepixel_stage_seconds_count {stage}"] == 3
    assert told["onepixel_batch_size_bucket 1.0"] == 3
    assert told[" ".join(["onepixel_model", *sorted([model.digest, "tiny", "1"])])] == 1
    assert (told["onepixel_streams"], told["onepixel_queue_frames"]) == (0, 0)
    assert told["onepixel_queue_bound"] > 0 and told["process_resident_memory_bytes"] > 1e6


def test_an_address_of_ipv6_is_one(model: Model) -> None:
    server = Server(model, settings(metrics_address="[::1]:0"))
    server.start()
    assert server.metrics_address.startswith("[::1]:") and get(server, "/livez") == (200, "ok\n")
    server.stop(0)


def test_readiness_ends_with_the_drain(model: Model, gated: Model, frame: Pixels) -> None:
    server = Server(gated, settings())
    assert server.metrics_address
    server.start()
    assert get(server, "/livez") == get(server, "/readyz") == (200, "ok\n")
    assert get(server, "/")[0] == 404
    with grpc.insecure_channel(server.address) as channel:
        under_way = pb_grpc.SegmentationServiceStub(channel).Segment.future(
            pb.SegmentRequest(frame=wire.frame_message(frame))
        )
        assert gated.entered.acquire(timeout=5)
        stopping = threading.Thread(target=server.stop, args=(5,))
        stopping.start()
        deadline = time.monotonic() + 5
        while get(server, "/readyz")[0] != 503:
            assert time.monotonic() < deadline
        assert get(server, "/livez")[0] == 200
        gated.gate.release()
        assert under_way.result(5).segmentation.mask.width == 64
        stopping.join(5)


def test_an_engine_that_hangs_is_told(gated: Model, frame: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "WATCH_SECONDS", 0.01)
    server = Server(gated, settings(operations=OperationSettings(hang_seconds=0.2)))
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        under_way = pb_grpc.SegmentationServiceStub(channel).Segment.future(
            pb.SegmentRequest(frame=wire.frame_message(frame))
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert get(server, "/livez") == (503, "no\n")
        gated.gate.release()
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        assert get(server, "/livez")[0] == 200
        under_way.result(5)
    server.stop(1)


def test_a_refusal_says_when_to_come_again(gated: Model, frame: Pixels) -> None:
    server = Server(gated, settings(queue=QueueSettings(max_wait=0.5), limits=Limits(places=8)))
    server._queue._interval = 0.75
    server.start()
    with grpc.insecure_channel(server.address) as channel, Client(server.address) as client:
        stub = pb_grpc.SegmentationServiceStub(channel)
        request = pb.SegmentRequest(frame=wire.frame_message(frame))
        under_way = stub.Segment.future(request)
        assert gated.entered.acquire(timeout=5)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Segment(request)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailing = dict(caught.value.trailing_metadata())
        assert trailing["grpc-retry-pushback-ms"] == "250"
        info, status = RetryInfo(), Status.FromString(trailing["grpc-status-details-bin"])
        assert status.message == caught.value.details() and status.details[0].Unpack(info)
        assert info.retry_delay.ToMilliseconds() == 250
        with pytest.raises(ServerError, match=r"would wait 0\.75 s; at most 0\.5 s") as refused:
            client.segment(frame)
        assert refused.value.retry_after == 0.25
        gated.gate.release()
        under_way.result(5)
    server.stop(1)


def test_streams_and_clients_are_bounded(model: Model, frame: Pixels) -> None:
    limits = Limits(max_streams=4, max_streams_per_client=1, max_clients=2)
    server = Server(model, settings(limits=limits))
    server.start()
    end = threading.Event()

    def held() -> Iterator[Pixels]:
        yield frame
        end.wait(10)

    options = [("grpc.use_local_subchannel_pool", 1)]  # else clients of one process share a connection
    clients = [Client(server.address) for _ in range(3)]
    for client in clients:
        client._channel.close()
        client._channel = grpc.insecure_channel(server.address, options=options)
        client._stub = pb_grpc.SegmentationServiceStub(client._channel)
    streams = [client.stream(held()) for client in clients[:2]]
    for stream in streams:
        next(stream)
    with pytest.raises(ServerError, match="all 1 streams of this client are taken; end one"):
        next(clients[0].stream([frame]))
    with pytest.raises(ServerError, match="2 clients have calls under way; retry later"):
        clients[2].segment(frame)
    assert clients[0].segment(frame).mask.shape == frame.shape[:2]
    end.set()
    for stream in streams:
        assert list(stream) == []
    for client in clients:
        client.close()
    server.stop(1)


def test_a_line_of_the_log_is_one_json_object() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("serving.test")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.error("refused: %r", "a\nb", extra={"event": {"request_id": "7", "sequence": 3}})
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "error",
        "logger": "serving.test",
        "message": r"refused: 'a\nb'",
        "request_id": "7",
        "sequence": 3,
    }
