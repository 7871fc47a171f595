"""How calls begin and end: stopping, silence, vanishing, and who may wait at whose cost."""

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from onepixel.v1 import segmentation_pb2 as pb
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc

from serving import server as server_module
from serving import wire
from serving.frames import Pixels
from serving.model import Model
from serving.server import EMBEDDED, Server
from serving.services import segmentation as segmentation_module
from serving.services.stream import Stream
from serving.settings import Limits

Start = Callable[..., tuple[Server, grpc.Channel]]


@pytest.fixture
def start(model: Model) -> Iterator[Start]:
    running: list[tuple[Server, grpc.Channel]] = []

    def start(model: Model = model, **limits: int) -> tuple[Server, grpc.Channel]:
        server = Server(model, EMBEDDED.model_copy(update={"limits": Limits(**limits)}))
        server.start()
        running.append((server, grpc.insecure_channel(server.address)))
        return running[-1]

    yield start
    for server, channel in running:
        channel.close()
        server.stop(0)


class Silence:
    """A client's side of a stream that sends what it is given, then nothing more until it is ended."""

    def __init__(self, *messages: object) -> None:
        self.messages, self.end = messages, threading.Event()

    def __iter__(self) -> Iterator[object]:
        yield from self.messages
        self.end.wait(20)


def request(frame: Pixels | bytes, **fields: object) -> pb.SegmentRequest:
    return pb.SegmentRequest(frame=wire.frame_message(frame, **fields))


def messages(*frames: Pixels) -> list[pb.StreamSegmentRequest]:
    sent = [pb.StreamSegmentRequest(frame=wire.frame_message(frame)) for frame in frames]
    return [pb.StreamSegmentRequest(config=pb.StreamConfig()), *sent]


def status(call: Callable[[], object]) -> tuple[str, str]:
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def eventually(call: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while (got := status(call)[0]) != "OK":
        assert time.monotonic() < deadline, got
        time.sleep(0.01)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def watch(channel: grpc.Channel) -> grpc.Call:
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())


def reflect(channel: grpc.Channel, silence: Silence) -> grpc.Call:
    return reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter(silence))


LIST = reflection_pb2.ServerReflectionRequest(list_services="")


def test_stopping_waits_for_frames_and_for_no_idle_call(start: Start, gated: Model, frame: Pixels) -> None:
    server, channel = start(gated)
    stub = pb_grpc.SegmentationServiceStub(channel)
    watching, silence, asking = watch(channel), Silence(), Silence(LIST)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
    reflecting = reflect(channel, asking)
    next(reflecting)
    silent = stub.StreamSegment(iter(silence))
    under_way = stub.Segment.future(request(frame))
    assert gated.entered.acquire(timeout=5)
    wait_until(lambda: server._segmentation._opening._ends)
    began = time.monotonic()
    stopping = threading.Thread(target=server.stop, args=(5,))
    stopping.start()
    assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert status(lambda: next(silent)) == ("UNAVAILABLE", "the server is draining")
    assert status(lambda: stub.Segment(request(frame))) == ("UNAVAILABLE", "the server is draining")
    assert status(lambda: stub.GetModelInfo(pb.GetModelInfoRequest()))[0] == "UNAVAILABLE"
    assert stopping.is_alive() and not under_way.done()
    gated.gate.release()
    assert under_way.result(5).segmentation.mask.width == 64
    stopping.join(5)
    assert time.monotonic() - began < 2
    assert status(lambda: next(watching)) == ("UNAVAILABLE", "the server is draining")
    assert status(lambda: next(reflecting))[0] == "CANCELLED"
    silence.end.set()
    asking.end.set()


def test_a_frame_that_takes_longer_than_the_grace_is_ended(start: Start, gated: Model, frame: Pixels) -> None:
    server, channel = start(gated)
    under_way = pb_grpc.SegmentationServiceStub(channel).Segment.future(request(frame))
    assert gated.entered.acquire(timeout=5)
    stopping = threading.Thread(target=server.stop, args=(0.2,))
    stopping.start()
    assert under_way.exception(3).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # gRPC decides
    gated.gate.release()
    stopping.join(5)
    assert not stopping.is_alive()


def test_every_call_around_a_stop_ends_ok_or_unavailable(start: Start, frame: Pixels) -> None:
    server, _ = start()
    done, seen = threading.Event(), Counter()

    def camera() -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # else the threads share one connection
        with grpc.insecure_channel(server.address, options=options) as channel:
            while not done.is_set():
                seen[status(lambda: pb_grpc.SegmentationServiceStub(channel).Segment(request(frame)))[0]] += 1

    cameras = [threading.Thread(target=camera) for _ in range(6)]
    for thread in cameras:
        thread.start()
    wait_until(lambda: seen["OK"] >= 20)
    server.stop(5)
    time.sleep(0.05)
    done.set()
    for thread in cameras:
        thread.join(5)
    assert seen.keys() == {"OK", "UNAVAILABLE"}


def test_silent_streams_take_no_stream_and_end(start: Start, frame: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation_module, "CONFIG_SECONDS", 1.0)
    server, channel = start(places=3, max_streams=2)
    stub = pb_grpc.SegmentationServiceStub(channel)
    silences = [Silence() for _ in range(2)]
    silent = [stub.StreamSegment(iter(silence)) for silence in silences]
    wait_until(lambda: len(server._segmentation._opening._ends) == 2)
    assert len(list(stub.StreamSegment(iter(messages(frame))))) == 1
    for call, silence in zip(silent, silences, strict=True):
        assert status(lambda call=call: next(call)) == ("DEADLINE_EXCEEDED", "stream: no config within 1 s")
        silence.end.set()
    wait_until(lambda: not server._segmentation._opening._ends)


def test_silent_streams_are_bounded(start: Start, frame: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation_module, "MAX_OPENING", 1)
    server, channel = start()
    stub = pb_grpc.SegmentationServiceStub(channel)
    silence = Silence()
    silent = stub.StreamSegment(iter(silence))
    wait_until(lambda: server._segmentation._opening._ends)
    refusal = ("RESOURCE_EXHAUSTED", "all 1 streams without a config are taken; retry later")
    assert status(lambda: list(stub.StreamSegment(iter(messages(frame))))) == refusal
    silent.cancel()
    silence.end.set()
    eventually(lambda: list(stub.StreamSegment(iter(messages(frame)))))


def test_a_vanished_cameras_stream_comes_back(start: Start, frame: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "KEEPALIVE_SECONDS", (0.3, 1.0))
    server, channel = start(max_streams=1)
    cut = threading.Event()

    def pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                cut.is_set() or sink.sendall(data)  # cut: acknowledged by the kernel, and never answered

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(("127.0.0.1", server.port)) as behind,
    ):
        camera = grpc.insecure_channel(f"127.0.0.1:{listener.getsockname()[1]}")
        silence = Silence(*messages(frame))
        call = pb_grpc.SegmentationServiceStub(camera).StreamSegment(iter(silence))
        before, _ = listener.accept()
        with before:
            for ends in ((before, behind), (behind, before)):
                threading.Thread(target=pass_on, args=ends, daemon=True).start()
            assert next(call).HasField("segmentation")
            stub = pb_grpc.SegmentationServiceStub(channel)
            assert status(lambda: list(stub.StreamSegment(iter(messages(frame)))))[0] == "RESOURCE_EXHAUSTED"
            time.sleep(1.6)  # silent, but there
            assert status(lambda: list(stub.StreamSegment(iter(messages(frame)))))[0] == "RESOURCE_EXHAUSTED"
            cut.set()
            eventually(lambda: list(stub.StreamSegment(iter(messages(frame)))))
            silence.end.set()
            camera.close()


def test_idle_calls_are_bounded_and_starve_nobody(start: Start, frame: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_IDLE_CALLS", 8)
    monkeypatch.setattr(server_module, "SPARE_THREADS", 1)
    _, channel = start(places=1, max_streams=0)
    asking = Silence(LIST)
    watching, reflecting = watch(channel), reflect(channel, asking)
    assert next(watching).status == 1 and next(reflecting).HasField("list_services_response")
    refusal = ("RESOURCE_EXHAUSTED", "all 2 idle calls of one client are taken; end one")
    assert status(lambda: next(watch(channel))) == refusal
    assert status(lambda: next(reflect(channel, Silence()))) == refusal
    assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status == 1
    assert pb_grpc.SegmentationServiceStub(channel).Segment(request(frame)).segmentation.mask.width == 64
    watching.cancel()
    eventually(lambda: next(watch(channel)))
    asking.end.set()


def test_more_calls_than_may_wait_are_refused(
    start: Start, gated: Model, frame: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SPARE_THREADS": 0, "MAX_OPENING": 0, "MAX_IDLE_CALLS": 1, "CALLS_PER_THREAD": 1}.items():
        monkeypatch.setattr(server_module, name, value)
    _, channel = start(gated, places=1, max_streams=0)  # so two calls at once
    stub = pb_grpc.SegmentationServiceStub(channel)
    watching = watch(channel)
    assert next(watching).status == 1
    under_way = stub.Segment.future(request(frame))
    assert gated.entered.acquire(timeout=5)
    assert status(lambda: stub.Segment(request(frame)))[0] == "RESOURCE_EXHAUSTED"
    gated.gate.release(2)
    assert under_way.result(5).segmentation.mask.width == 64
    eventually(lambda: stub.Segment(request(frame)))


def test_what_breaks_the_reader_ends_the_stream(start: Start, frame: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    _, channel = start(max_streams=1)
    stub = pb_grpc.SegmentationServiceStub(channel)

    def broken(*_: object) -> bool:
        raise RuntimeError("nobody foresaw this")

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "accept", broken)
        call = stub.StreamSegment(iter(messages(frame)), timeout=5)
        assert status(lambda: next(call)) == ("INTERNAL", "internal error; the server's log says more")
    eventually(lambda: list(stub.StreamSegment(iter(messages(frame)))))


def test_the_log_names_the_camera_of_a_refused_frame(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    _, channel = start()
    stub = pb_grpc.SegmentationServiceStub(channel)
    bad = request(b"hello", camera_id="left\n" + "x" * 200, sequence=7)
    with caplog.at_level(logging.INFO, logger="serving"):
        named = (("x-request-id", "drive 3"),)
        assert status(lambda: stub.Segment(bad, metadata=named))[0] == "INVALID_ARGUMENT"
        list(stub.StreamSegment(iter([*messages(), pb.StreamSegmentRequest(frame=bad.frame)]), metadata=named))
    called, streamed = (record.getMessage() for record in caplog.records)
    assert called == streamed and len(called) < 400 and "\n" not in called
    assert called.startswith("refused: request 'drive 3', camera 'left\\nxxx") and ", frame 7: InputError: " in called
    assert "text, beginning" in called


def test_streams_that_are_not_read_keep_nobody_from_the_engine(start: Start, model: Model, frame: Pixels) -> None:
    server, channel = start()
    stub = pb_grpc.SegmentationServiceStub(channel)
    large = np.zeros((1000, 1000, 3), np.uint8)
    silences = [Silence(*messages(*[large] * 4)) for _ in range(3)]
    streams = [stub.StreamSegment(iter(silence)) for silence in silences]
    wait_until(lambda: server.metrics.streams._value.get() == 3)
    answered: list[float] = []
    while len(answered) < 2 or answered[-1] != answered[-2] or server._queue._held:  # all wait for their clients
        answered.append(server.metrics._batch._sum.get())
        time.sleep(0.2)
    server._queue._interval = 10.0  # so that one frame here would be too many
    assert stub.Segment(request(frame)).segmentation.mask.width == 64
    for stream, silence in zip(streams, silences, strict=True):
        silence.end.set()
        stream.cancel()


def test_a_long_name_is_cut_in_the_status(start: Start, frame: Pixels) -> None:
    _, channel = start()
    stub = pb_grpc.SegmentationServiceStub(channel)
    named = pb.SegmentRequest(frame=wire.frame_message(frame), model_name="m" * 20_000)
    code, details = status(lambda: stub.Segment(named))
    assert code == "NOT_FOUND" and len(details) == 1000
    camera = wire.frame_message(frame, camera_id="c" * 257)
    assert (
        "257 characters; at most 256"
        in next(stub.StreamSegment(iter([*messages(), pb.StreamSegmentRequest(frame=camera)]))).error.message
    )


def test_bytes_that_are_no_message_are_refused_and_hold_nothing(start: Start, frame: Pixels) -> None:
    _, channel = start()
    for service in ("onepixel.v1.SegmentationService/Segment", "inference.GRPCInferenceService/ModelInfer"):
        call = channel.unary_unary(f"/{service}")
        for _ in range(100):  # more than the calls of a connection
            code, details = status(lambda call=call: call(b"\xff", timeout=5))
            assert code == "INVALID_ARGUMENT" and "arsing message" in details
    stream = channel.stream_stream("/onepixel.v1.SegmentationService/StreamSegment")
    assert status(lambda: list(stream(iter([messages()[0].SerializeToString(), b"\xff"]))))[0] == "INVALID_ARGUMENT"
    assert status(lambda: list(stream(iter([b"\xff"]))))[0] == "INVALID_ARGUMENT"
    assert pb_grpc.SegmentationServiceStub(channel).Segment(request(frame)).segmentation.mask.width == 64


def test_a_hanging_engine_ends_the_stop_all_the_same(start: Start, gated: Model, frame: Pixels) -> None:
    server, channel = start(gated)
    under_way = pb_grpc.SegmentationServiceStub(channel).Segment.future(request(frame))
    assert gated.entered.acquire(timeout=5)
    assert not server.stop(0.1)
    gated.gate.release()
    assert under_way.exception(5) is not None
