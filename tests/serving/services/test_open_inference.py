"""The service over a real queue and model, spoken to with the stubs."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version

import grpc
import numpy as np
import pytest
from onepixel.oip import open_inference_pb2 as pb
from onepixel.oip import open_inference_pb2_grpc as pb_grpc

from serving.frames import Pixels, encode_png
from serving.model import Model
from serving.server import EMBEDDED, Server
from serving.settings import Limits

Stub = pb_grpc.GRPCInferenceServiceStub


@pytest.fixture
def stub(server: Server) -> Iterator[Stub]:
    with grpc.insecure_channel(server.address) as channel:
        yield Stub(channel)


def refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def frames_request(frames: Pixels, **fields: object) -> pb.ModelInferRequest:
    tensor = {"name": "frames", "datatype": "UINT8", "shape": frames.shape}
    return pb.ModelInferRequest(inputs=[tensor], raw_input_contents=[frames.tobytes()], **fields)


def masks(response: pb.ModelInferResponse) -> dict[str, Pixels]:
    return {
        output.name: np.frombuffer(data, np.uint8).reshape(output.shape)
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def test_readiness_ends_with_the_drain(model: Model) -> None:
    server = Server(model)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        for ready in (True, False):
            assert stub.ServerReady(pb.ServerReadyRequest()).ready is ready
            for name, number in (("tiny", "1"), ("tiny", ""), ("", "")):
                assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=number)).ready is ready
            assert not stub.ModelReady(pb.ModelReadyRequest(name="other")).ready
            assert stub.ServerLive(pb.ServerLiveRequest()).live
            server._accepted.close()
    server.stop(1)


def test_frames_are_counted_and_all_or_none_answered(model: Model, frame: Pixels) -> None:
    server = Server(model, EMBEDDED.model_copy(update={"limits": Limits(places=3)}))
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub = Stub(channel)
        stub.ModelInfer(frames_request(np.stack([frame] * 3)))
        files = [encode_png(frame), encode_png(frame)[:-20]]
        tensor = {"name": "images", "datatype": "BYTES", "shape": [2], "contents": {"bytes_contents": files}}
        assert refused(lambda: stub.ModelInfer(pb.ModelInferRequest(inputs=[tensor])))[0] == "INVALID_ARGUMENT"
        code, details = refused(lambda: stub.ModelInfer(frames_request(np.stack([frame] * 4))))
        assert code == "INVALID_ARGUMENT" and "at most 3" in details
    server.stop(1)
    counted = {
        sample.labels["outcome"]: sample.value
        for family in server.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "onepixel_frames_total"
    }
    assert counted == {"mask": 3, "invalid": 2}  # a request that cannot be read counts as one frame
    assert server._queue._held.total() == 0


def test_server_and_model_say_what_they_are(stub: Stub) -> None:
    server = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (server.name, server.version, list(server.extensions)) == ("onepixel", version("onepixel"), [])
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="tiny"))
    assert (model.name, list(model.versions)) == ("tiny", ["1"])
    assert refused(lambda: stub.ModelMetadata(pb.ModelMetadataRequest(name="other")))[0] == "NOT_FOUND"


def test_frames_and_images_give_the_models_masks(stub: Stub, model: Model, frame: Pixels) -> None:
    frames = np.stack([frame, frame[::-1], frame[:, ::-1]])
    files = [encode_png(frame) for frame in frames]
    tensor = {"name": "images", "datatype": "BYTES", "shape": [3], "contents": {"bytes_contents": files}}
    from_frames = masks(stub.ModelInfer(frames_request(frames, id="7")))
    assert stub.ModelInfer(frames_request(frames)).parameters["model_digest"].string_param == model.digest
    from_images = stub.ModelInfer(pb.ModelInferRequest(inputs=[tensor], model_name="tiny", model_version="1"))
    expected = [model.segment(np.ascontiguousarray(frame)) for frame in frames]
    for index, output in enumerate(from_images.outputs):
        planes = [answer[index] for answer in expected]
        assert np.array_equal(from_frames[output.name], planes)
        assert np.array_equal(np.reshape(output.contents.uint_contents, output.shape), planes)


def test_statuses(stub: Stub, frame: Pixels) -> None:
    for fields in ({"model_name": "other"}, {"model_version": "9"}):
        assert refused(lambda fields=fields: stub.ModelInfer(frames_request(frame[None], **fields)))[0] == "NOT_FOUND"
    code, details = refused(lambda: stub.ModelInfer(frames_request(frame)))
    assert code == "INVALID_ARGUMENT" and details.startswith("input 'frames': shape [48, 64, 3]; should be")
    unknown = frames_request(frame[None], outputs=[{"name": "x"}])
    assert refused(lambda: stub.ModelInfer(unknown))[0] == "INVALID_ARGUMENT"
    code, details = refused(lambda: stub.ModelInfer(pb.ModelInferRequest(inputs=[{"name": "y" * 100_000}])))
    assert code == "INVALID_ARGUMENT" and len(details) < 400


def test_a_client_never_loads_these_stubs() -> None:
    code = "import sys, serving.client; print([name for name in sys.modules if 'oip' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
