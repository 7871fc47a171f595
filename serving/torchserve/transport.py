"""Our client's way to TorchServe: stubs with our service's calls, over TorchServe's gRPC or its HTTP.

`Client("torchserve://HOST:PORT")` and `Client("torchserve+http://HOST:PORT")` take them in place of our own service's,
so that a user changes the address alone. TorchServe has no streams: `StreamSegment` asks for one frame after the other,
with a few on their way, and gives the outcomes in order.
"""

import http.client
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.rpc import code_pb2
from onepixel.torchserve import inference_pb2 as ts
from onepixel.torchserve import inference_pb2_grpc as ts_grpc
from onepixel.v1 import segmentation_pb2 as pb

from serving.errors import InputError

GRPC_SCHEME, HTTP_SCHEME = "torchserve://", "torchserve+http://"
PROTOBUF = "application/x-protobuf"
IN_FLIGHT = 4
"""Frames of a stream that are on their way at once, so that TorchServe can make batches."""
PAUSE = 0.2
"""Seconds between two questions whether it is there."""
_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}
Metadata = Sequence[tuple[str, str]]


class TransportError(grpc.RpcError):
    """What an HTTP answer says, as gRPC would have."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        """Return the status."""
        return self._code

    def details(self) -> str:
        """Return what was said."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """Return nothing: HTTP has none."""
        return ()


class _Stream:
    """The outcomes of a stream, which a caller may cancel."""

    def __init__(self, responses: Iterator[pb.StreamSegmentResponse]) -> None:
        self._responses = responses

    def __iter__(self) -> Iterator[pb.StreamSegmentResponse]:
        return self._responses

    def cancel(self) -> None:
        """Ask for no more."""
        self._responses.close()  # type: ignore[attr-defined]


class _Stub:
    """Our service's calls, made of two questions that TorchServe answers."""

    def __init__(self, model_name: str, ask: Callable[[str, bytes, float | None, Metadata], bytes]) -> None:
        if not model_name:
            raise InputError("model_name: TorchServe has no default model; name the one to ask")
        self._ask = ask

    def GetModelInfo(
        self,
        request: pb.GetModelInfoRequest,
        timeout: float | None = None,
        wait_for_ready: bool = False,
        metadata: Metadata = (),
    ) -> pb.GetModelInfoResponse:
        """Describe the model; with `wait_for_ready`, as soon as a worker answers."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return pb.GetModelInfoResponse.FromString(self._ask("model-info", b"1", timeout, metadata))
            except grpc.RpcError as error:
                left = None if deadline is None else deadline - time.monotonic() - PAUSE
                away = error.code() is grpc.StatusCode.UNAVAILABLE
                if not (wait_for_ready and away) or (left is not None and left <= 0):
                    raise
            time.sleep(PAUSE)
            timeout = left

    def Segment(
        self, request: pb.SegmentRequest, timeout: float | None = None, metadata: Metadata = ()
    ) -> pb.SegmentResponse:
        """Segment one frame."""
        answer = self._ask("request", request.SerializeToString(), timeout, metadata)
        outcome = pb.StreamSegmentResponse.FromString(answer)
        if outcome.WhichOneof("outcome") != "segmentation":
            raise TransportError(_CODES[outcome.error.code], outcome.error.message)
        return pb.SegmentResponse(segmentation=outcome.segmentation)

    def StreamSegment(self, requests: Iterable[pb.StreamSegmentRequest], metadata: Metadata = ()) -> _Stream:
        """Segment frames; what is refused is its frame's outcome."""
        return _Stream(self._outcomes(iter(requests), metadata))

    def _outcomes(
        self, requests: Iterator[pb.StreamSegmentRequest], metadata: Metadata
    ) -> Iterator[pb.StreamSegmentResponse]:
        config = next(requests).config
        waiting: deque[tuple[pb.Frame, Future[pb.SegmentResponse]]] = deque()
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="torchserve") as pool:
            for message in requests:
                request = pb.SegmentRequest(frame=message.frame, options=config.options)
                waiting.append((message.frame, pool.submit(self.Segment, request, None, metadata)))
                while len(waiting) >= IN_FLIGHT or (waiting and waiting[0][1].done()):
                    yield _outcome(*waiting.popleft())
            while waiting:
                yield _outcome(*waiting.popleft())


def open_grpc(channel: grpc.Channel, model: dict[str, str]) -> _Stub:
    """Return the stub over TorchServe's gRPC."""
    stub = ts_grpc.InferenceAPIsServiceStub(channel)

    def ask(what: str, content: bytes, timeout: float | None, metadata: Metadata) -> bytes:
        request = ts.PredictionsRequest(input={what: content}, **model)
        # TorchServe tells its own protocols apart by this header where it asks for tokens.
        answer = stub.Predictions(request, timeout=timeout, metadata=(("protocol", "gRPC"), *metadata))
        return bytes(answer.prediction)

    return _Stub(model["model_name"], ask)


def open_http(address: str, model: dict[str, str]) -> tuple["_Connections", _Stub]:
    """Return what closes the connections, and the stub over TorchServe's HTTP."""
    path = f"/predictions/{model['model_name']}" + (f"/{model['model_version']}" if model["model_version"] else "")
    connections = _Connections(address)

    def ask(what: str, content: bytes, timeout: float | None, metadata: Metadata) -> bytes:
        headers = {"Content-Type": PROTOBUF, **{key.title(): value for key, value in metadata}}
        if what == "model-info":
            headers["onepixel-call"] = what
        try:
            with connections.one(timeout) as connection:
                connection.request("POST", path, content, headers)
                answer = connection.getresponse()
                body: bytes = answer.read()
        except (OSError, http.client.HTTPException) as error:
            code = grpc.StatusCode.DEADLINE_EXCEEDED if isinstance(error, TimeoutError) else grpc.StatusCode.UNAVAILABLE
            raise TransportError(code, f"{address}: {error}") from error
        if answer.status != 200:
            said = body.decode("utf-8", "replace")[:500]
            status = _STATUS.get(answer.status, grpc.StatusCode.INTERNAL)
            if "InvalidKeyException" in said:  # which its HTTP calls a bad request, and its gRPC a lack of permission
                status = grpc.StatusCode.PERMISSION_DENIED
            raise TransportError(status, said or answer.reason)
        return body

    return connections, _Stub(model["model_name"], ask)


class _Connections:
    """HTTP connections to one address, as many as there are calls at once."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._closed = False

    @contextmanager
    def one(self, timeout: float | None) -> Iterator[http.client.HTTPConnection]:
        """Lend a connection, whose socket waits `timeout` seconds at most; one that fails is not lent again."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = http.client.HTTPConnection(self._address)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close those that are idle, and the others when their calls have ended."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def _outcome(frame: pb.Frame, answer: "Future[pb.SegmentResponse]") -> pb.StreamSegmentResponse:
    response = pb.StreamSegmentResponse(camera_id=frame.camera_id, sequence=frame.sequence)
    try:
        response.segmentation.CopyFrom(answer.result().segmentation)
    except grpc.RpcError as error:
        told: Any = error
        response.error.code = code_pb2.Code.Value(told.code().name)
        response.error.message = told.details() or ""
    return response
