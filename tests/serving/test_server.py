"""A real server on loopback, spoken to with the stubs alone."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from onepixel.v1 import segmentation_pb2 as pb
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc

from serving import wire
from serving.errors import InputError
from serving.frames import Pixels, encode_png
from serving.masks import MaskEncoding
from serving.model import Model
from serving.server import EMBEDDED, Server
from serving.services.segmentation import SERVICE
from serving.settings import Limits
from serving.wire import Segmentation, SegmentOptions

Stub = pb_grpc.SegmentationServiceStub
BAD = ["half a JPEG", "a JPEG's first bytes", "a huge PNG", "zero bytes", "a text file", "a GIF"]


@pytest.fixture
def start(model: Model) -> Iterator[Callable[..., tuple[Server, Stub]]]:
    """Start a server of one's own with limits."""
    running: list[tuple[Server, grpc.Channel]] = []

    def start(**limits: int) -> tuple[Server, Stub]:
        server = Server(model, EMBEDDED.model_copy(update={"limits": Limits(**limits)}))
        server.start()
        channel = grpc.insecure_channel(server.address)
        running.append((server, channel))
        return server, Stub(channel)

    yield start
    for server, channel in running:
        channel.close()
        server.stop(0)


def request(image: Pixels | bytes, **fields: object) -> pb.SegmentRequest:
    return pb.SegmentRequest(frame=wire.frame_message(image), **fields)


def stream_of(*images: Pixels | bytes, **config: object) -> Iterator[pb.StreamSegmentRequest]:
    yield pb.StreamSegmentRequest(config=pb.StreamConfig(**config))
    for number, image in enumerate(images):
        yield pb.StreamSegmentRequest(frame=wire.frame_message(image, sequence=number))


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("encoding", list(MaskEncoding))
def test_segment_answers_the_engines_masks(stub: Stub, model: Model, frame: Pixels, encoding: MaskEncoding) -> None:
    options = SegmentOptions(mask_encoding=encoding, want_confidence=True, want_histogram=True)
    for image in (frame, encode_png(frame)):
        answer = stub.Segment(request(image, options=options.to_message())).segmentation
        assert answer.mask.encoding == answer.confidence.encoding == wire.enum_value(encoding, pb.MaskEncoding)
        decoded = Segmentation.from_message(answer)
        mask, confidence = model.segment(frame)
        assert np.array_equal(decoded.mask, mask)
        assert decoded.confidence is not None and np.array_equal(decoded.confidence, confidence)
        assert decoded.histogram == tuple(int((mask == number).sum()) for number in range(3))
        assert (answer.model_name, answer.model_version, answer.model_digest) == ("tiny", "1", model.digest)
        assert decoded.timings.decode > 0 and decoded.timings.inference > 0


def test_nothing_is_answered_that_was_not_asked_for(stub: Stub, frame: Pixels) -> None:
    answer = stub.Segment(request(frame)).segmentation
    assert answer.mask.encoding == pb.MASK_ENCODING_RAW
    assert not answer.HasField("confidence") and not answer.histogram


@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_is_refused_and_the_next_answered(
    stub: Stub, bad_images: dict[str, tuple[bytes, str]], jpeg: bytes, name: str
) -> None:
    data, message = bad_images[name]
    code, details = refused(lambda: stub.Segment(request(data)))
    assert code == "INVALID_ARGUMENT" and message in details
    assert stub.Segment(request(jpeg)).segmentation.mask.width == 128


def test_bad_frames_never_end_a_stream(stub: Stub, bad_images: dict[str, tuple[bytes, str]], jpeg: bytes) -> None:
    assert sorted(bad_images) == sorted(BAD)
    images = [image for data, _ in bad_images.values() for image in (data, jpeg)]
    answers = list(stub.StreamSegment(stream_of(*images)))
    assert [answer.sequence for answer in answers] == list(range(len(images)))
    for answer, (_, message) in zip(answers[::2], bad_images.values(), strict=True):
        assert answer.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0] and message in answer.error.message
    assert all(answer.segmentation.mask.width == 128 for answer in answers[1::2])


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"model_name": "other"}, "NOT_FOUND", "model 'other' is not served; 'tiny' is"),
        ({"model_version": "2"}, "NOT_FOUND", "version '2' of model 'tiny' is not served; '1' is"),
        ({"options": {"mask_encoding": 9}}, "INVALID_ARGUMENT", "options.mask_encoding: 9 is unknown"),
        ({"options": {"max_age": {"seconds": -1}}}, "INVALID_ARGUMENT", "options.max_age: -1"),
        ({"options": {"max_age": {"nanos": 1}}}, "DEADLINE_EXCEEDED", "expired before its turn"),
        ({"frame": {}}, "INVALID_ARGUMENT", "holds no image"),
        ({"frame": {"raw": {"width": 1, "height": 1, "data": b"x"}}}, "INVALID_ARGUMENT", "raw.format: not given"),
        ({"frame": {"encoded": {"data": b"x", "format": 7}}}, "INVALID_ARGUMENT", "encoded.format: 7 is unknown"),
    ],
)
def test_bad_requests(stub: Stub, frame: Pixels, change: dict[str, object], code: str, message: str) -> None:
    fields = {"frame": wire.frame_message(frame), **change}
    got, details = refused(lambda: stub.Segment(pb.SegmentRequest(**fields)))
    assert got == code and message in details


@pytest.mark.parametrize(
    ("requests", "code", "message"),
    [
        (lambda: iter(()), "INVALID_ARGUMENT", "first message should hold the config"),
        (lambda: iter([pb.StreamSegmentRequest()]), "INVALID_ARGUMENT", "first message should hold the config"),
        (lambda: iter(list(stream_of(b"x"))[1:]), "INVALID_ARGUMENT", "first message should hold the config"),
        (lambda: iter(list(stream_of()) * 2), "INVALID_ARGUMENT", "each should hold a frame"),
        (lambda: stream_of(model_name="other"), "NOT_FOUND", "'other' is not served"),
        (lambda: stream_of(max_in_flight=17), "INVALID_ARGUMENT", "max_in_flight: 17; this server allows 16"),
        (lambda: stream_of(overflow_policy=9), "INVALID_ARGUMENT", "overflow_policy: 9 is unknown"),
    ],
)
def test_bad_streams(stub: Stub, requests: Callable[[], Iterator[object]], code: str, message: str) -> None:
    got, details = refused(lambda: list(stub.StreamSegment(requests())))
    assert got == code and message in details


def test_a_second_config_ends_the_stream_after_the_outcomes(stub: Stub, frame: Pixels) -> None:
    messages = [*stream_of(frame, frame), *stream_of()]
    call = stub.StreamSegment(iter(messages))
    assert next(call).sequence == 0 and next(call).sequence == 1
    assert refused(lambda: next(call))[0] == "INVALID_ARGUMENT"


def test_leaving_before_the_config_is_no_fault(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    end = threading.Event()

    def silent() -> Iterator[pb.StreamSegmentRequest]:
        end.wait(5)
        yield from ()

    call = stub.StreamSegment(silent())
    time.sleep(0.1)
    call.cancel()
    time.sleep(0.1)
    end.set()
    assert not caplog.records


def test_an_empty_stream_ends_well(stub: Stub) -> None:
    assert list(stub.StreamSegment(stream_of())) == []


def test_streams_are_bounded_and_leave_room_for_calls(start: Callable[..., tuple[Server, Stub]], frame: Pixels) -> None:
    _, stub = start(places=3, max_streams=2)
    ends = [threading.Event() for _ in range(2)]

    def held(end: threading.Event) -> Iterator[pb.StreamSegmentRequest]:
        yield from stream_of(frame)
        end.wait(5)

    streams = [stub.StreamSegment(held(end)) for end in ends]
    for stream in streams:
        assert next(stream).HasField("segmentation")
    code, details = refused(lambda: next(stub.StreamSegment(stream_of(frame))))
    assert (code, details) == ("RESOURCE_EXHAUSTED", "all 2 streams are taken; retry later")
    assert stub.Segment(request(frame)).segmentation.mask.width == 64
    streams[0].cancel()
    ends[1].set()
    assert list(streams[1]) == []
    deadline = time.monotonic() + 5
    while True:  # a cancelled stream frees its place as soon as the server hears of it
        try:
            assert len(list(stub.StreamSegment(stream_of(frame)))) == 1
            break
        except grpc.RpcError:
            assert time.monotonic() < deadline
    ends[0].set()


def test_a_full_server_refuses_and_recovers(gated: Model, jpeg: bytes) -> None:
    server = Server(gated, EMBEDDED.model_copy(update={"limits": Limits(places=1, max_streams=0)}))
    server.start()
    with grpc.insecure_channel(server.address) as channel, ThreadPoolExecutor(16) as pool:
        stub = Stub(channel)
        taken = stub.Segment.future(request(jpeg))
        assert gated.entered.acquire(timeout=5)
        calls = [pool.submit(refused, lambda: stub.Segment(request(jpeg))) for _ in range(64)]
        assert {call.result(5) for call in calls} == {("RESOURCE_EXHAUSTED", "all 1 places are taken; retry later")}
        gated.gate.release(2)
        assert taken.result(5).segmentation.mask.width == 128
        deadline = time.monotonic() + 5
        while server._queue._held.total() != 0:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert stub.Segment(request(jpeg)).segmentation.mask.width == 128
    server.stop(1)
    assert gated.count == 2


def test_under_load_no_inference_is_wasted_and_a_full_server_refuses(gated: Model, frame: Pixels) -> None:
    server = Server(gated, EMBEDDED.model_copy(update={"limits": Limits(places=3, max_streams=0)}))
    server.start()

    def wait_for_free(places: int) -> None:
        deadline = time.monotonic() + 10
        while 3 - server._queue._held.total() != places:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    with grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        first = stub.Segment.future(request(frame))
        assert gated.entered.acquire(timeout=5)
        cancelled = stub.Segment.future(request(frame))
        expired = stub.Segment.future(request(frame), timeout=1.5)
        wait_for_free(0)
        code, details = refused(lambda: stub.Segment(request(frame)))
        assert code == "RESOURCE_EXHAUSTED" and "all 3 places are taken" in details
        cancelled.cancel()
        assert expired.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        wait_for_free(2)
        gated.gate.release(2)
        assert first.result(5).segmentation.mask.width == 64
        assert stub.Segment(request(frame)).segmentation.mask.width == 64
    server.stop(1)
    assert gated.count == 2


def test_limits_are_checked(start: Callable[..., tuple[Server, Stub]], frame: Pixels) -> None:
    _, stub = start(max_pixels=100, max_message_bytes=20_000)
    assert "the limit is 100 pixels" in refused(lambda: stub.Segment(request(frame)))[1]
    assert refused(lambda: stub.Segment(request(bytes(20_000))))[0] == "RESOURCE_EXHAUSTED"


def test_a_raw_frame_of_two_megapixels_passes(server: Server) -> None:
    frame = np.zeros((1024, 2048, 3), np.uint8)
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        answer = Stub(channel).Segment(request(frame, options=pb.SegmentOptions(want_confidence=True)))
    assert len(answer.segmentation.mask.data) == len(answer.segmentation.confidence.data) == 2048 * 1024


def test_model_info(stub: Stub, model: Model) -> None:
    info = stub.GetModelInfo(pb.GetModelInfoRequest()).model
    assert (info.name, info.version, info.digest) == ("tiny", "1", model.digest)
    assert (info.input_width, info.input_height, info.ignored_id) == (32, 24, 255)
    assert [(entry.id, entry.name, entry.category) for entry in info.classes] == [
        (0, "red", "warm"),
        (1, "green", "cold"),
        (2, "blue", "cold"),
    ]
    assert info.classes[0].colour == 0xC80000
    assert dict(info.metadata) == model.properties
    assert refused(lambda: stub.GetModelInfo(pb.GetModelInfoRequest(model_name="x")))[0] == "NOT_FOUND"


def test_health_follows_the_server(model: Model) -> None:
    server = Server(model)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == 1  # SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(watch).status == 1
        unknown = health_pb2.HealthCheckRequest(service="other")
        assert refused(lambda: health.Check(unknown))[0] == "NOT_FOUND"
        watch_unknown = health.Watch(unknown)
        assert next(watch_unknown).status == 3  # SERVICE_UNKNOWN
        began = time.monotonic()
        stopping = threading.Thread(target=server.stop, args=(5,))
        stopping.start()
        assert next(watch).status == 2  # NOT_SERVING
        for call in (watch, watch_unknown):
            assert refused(lambda call=call: next(call))[0] == "UNAVAILABLE"
        stopping.join(5)
        assert time.monotonic() - began < 2


def test_reflection_tells_the_contract(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        questions = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        services, contract = ask(iter(questions))
    names = {service.name for service in services.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= names
    files = [FileDescriptorProto.FromString(f) for f in contract.file_descriptor_response.file_descriptor_proto]
    assert any(file.package == "onepixel.v1" for file in files)


def test_a_port_in_use_is_a_clear_error(server: Server, model: Model) -> None:
    with pytest.raises(InputError, match=f"cannot listen at '127.0.0.1:{server.port}'; is the port in use,"):
        Server(model, EMBEDDED.model_copy(update={"address": f"127.0.0.1:{server.port}"}))
    for address in ("127.0.0.1", "50051", ":50051", "127.0.0.1:http", "127.0.0.1:65536"):
        with pytest.raises(InputError, match="should be HOST:PORT"):
            Server(model, EMBEDDED.model_copy(update={"address": address}))


def test_stopping_answers_what_was_taken_and_ends_open_streams(model: Model, frame: Pixels) -> None:
    server = Server(model)
    server.start()
    end = threading.Event()

    def held() -> Iterator[pb.StreamSegmentRequest]:
        yield from stream_of(*[frame] * 8)
        end.wait(5)

    with grpc.insecure_channel(server.address) as channel:
        call = Stub(channel).StreamSegment(held())
        assert next(call).sequence == 0
        began = time.monotonic()
        stopping = threading.Thread(target=server.stop, args=(5,))
        stopping.start()
        last = 0
        with pytest.raises(grpc.RpcError) as caught:
            for answer in call:
                assert answer.sequence == last + 1 and answer.HasField("segmentation")
                last = answer.sequence
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        stopping.join(5)
        assert time.monotonic() - began < 3
        end.set()
        assert refused(lambda: Stub(channel).Segment(request(frame)))[0] == "UNAVAILABLE"


def test_serving_imports_neither_torch_nor_training() -> None:
    code = """
import pkgutil, importlib, sys, serving
for module in pkgutil.walk_packages(serving.__path__, "serving."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
importlib.import_module("serving.__main__")
print(sorted({"torch", "torchvision", "training", "mlflow", "onnx", "scipy", "skimage"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_client_needs_no_runtime() -> None:
    code = "import sys, serving.client, serving.segment_files; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_commands_import_only_click() -> None:
    code = (
        "import sys, serving.commands, serving.cli_support; print({'numpy', 'grpc', 'pydantic'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
