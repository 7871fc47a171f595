"""The client that people import: frames in, numpy masks out, synchronous or asynchronous.

    with Client("127.0.0.1:50051") as client:
        picture = client.model_info().palette[client.segment("frame.jpg").mask]

Pixels are sent as raw RGB, files as they are. What the server refuses is a `ServerError`.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from onepixel.v1 import segmentation_pb2 as pb
from onepixel.v1 import segmentation_pb2_grpc as pb_grpc

from serving import wire
from serving.credentials import Credentials, read_file
from serving.errors import InputError
from serving.frames import Pixels
from serving.masks import MaskEncoding
from serving.server_errors import ServerError, absence, server_errors
from serving.wire import ModelInfo, OverflowPolicy, Segmentation, SegmentOptions

__all__ = [
    "AsyncClient",
    "Client",
    "Credentials",
    "Image",
    "InputError",
    "MaskEncoding",
    "ModelInfo",
    "Outcome",
    "OverflowPolicy",
    "SegmentOptions",
    "Segmentation",
    "ServerError",
]

Image = Pixels | bytes | str | Path
"""uint8 pixels [H, W, 3] RGB or [H, W] grey; the bytes of a JPEG, PNG or WEBP file; or the path of one."""

# Masks and raw frames pass grpc's default of 4 MiB; what is large is the caller's business.
# While a call is under way the server is pinged, so that one that vanished without a word is noticed within their sum.
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
LAST_ATTEMPT = 2.0
"""Seconds for the attempt that tells why a server cannot be reached."""


@dataclass(frozen=True)
class Outcome:
    """What became of one frame of a stream: exactly one of `segmentation`, `dropped` and `error` is there."""

    sequence: int
    """The frame's place in the stream, from 0."""
    segmentation: Segmentation | None = None
    """Its mask."""
    dropped: str | None = None
    """Why it was not segmented: "OVERFLOW" or "EXPIRED"."""
    error: ServerError | None = None
    """Why it could not be."""

    @classmethod
    def from_message(cls, message: pb.StreamSegmentResponse) -> "Outcome":
        """Decode the message's masks."""
        kind = message.WhichOneof("outcome")
        if kind == "segmentation":
            return cls(message.sequence, segmentation=Segmentation.from_message(message.segmentation))
        if kind == "dropped":
            return cls(
                message.sequence, dropped=pb.DropReason.Name(message.dropped.reason).removeprefix("DROP_REASON_")
            )
        return cls(message.sequence, error=ServerError(_CODES[message.error.code], message.error.message))


class _Connection:
    """What both clients are made of; `Client` describes the parameters."""

    _grpc: Any = grpc

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 60.0,
        model_name: str = "",
        model_version: str = "",
        credentials: Credentials | None = None,
    ) -> None:
        credentials = credentials or Credentials()
        self._address, self._timeout, self._metadata = address, timeout, credentials.metadata()
        self._model = {"model_name": model_name, "model_version": model_version}
        self._channel, self._stub = self._connect(address, credentials)

    def _named(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Return a call's metadata."""
        if not (request_id.isascii() and request_id.isprintable()):
            raise InputError(f"request_id: {request_id!r}; should be printable ASCII")
        return (*self._metadata, *((("x-request-id", request_id),) if request_id else ()))

    def _connect(self, address: str, credentials: Credentials) -> tuple[Any, Any]:
        """Return what is to be closed, and the stub."""
        scheme, separator, place = address.rpartition("://")
        if not separator:
            channel = credentials.connect(self._grpc, address, _OPTIONS)
            return channel, pb_grpc.SegmentationServiceStub(channel)
        from serving.torchserve import transport

        if self._grpc is not grpc or scheme + separator not in (transport.GRPC_SCHEME, transport.HTTP_SCHEME):
            raise InputError(f"address: '{address}'; should be HOST:PORT, or torchserve://HOST:PORT for a Client")
        if scheme + separator == transport.HTTP_SCHEME:
            if credentials.authorities or credentials.certificate:
                raise InputError(f"address: '{address}' is in the clear; with authorities take torchserve://HOST:PORT")
            credentials.warn_in_the_clear(place)
            return transport.open_http(place, self._model)
        channel = credentials.connect(self._grpc, place, _OPTIONS)
        return channel, transport.open_grpc(channel, self._model)


class Client(_Connection):
    """A connection to a server; may be shared between threads.

    Parameters
    ----------
    address
        HOST:PORT. Nothing is sent before the first call. torchserve://HOST:PORT is TorchServe's gRPC with our handler,
        torchserve+http://HOST:PORT its HTTP; they need `model_name`.
    timeout
        Seconds that one call may take; also the deadline after which the server spends nothing on it. A stream has
        none.
    model_name, model_version
        Which model answers; empty means the server's default.
    credentials
        How server and client know each other; None means that calls are in the clear.

    Raises
    ------
    InputError
        If a file of the credentials cannot be read or holds something else.
    """

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way end with CANCELLED."""
        self._channel.close()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until the server answers.

        Raises
        ------
        ServerError
            UNAVAILABLE, if it does not within `timeout` seconds; NOT_FOUND, if it does not serve the model.
        """
        request = pb.GetModelInfoRequest(**self._model)
        with server_errors():
            try:
                self._stub.GetModelInfo(request, timeout=timeout, wait_for_ready=True, metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
                try:
                    self._stub.GetModelInfo(request, timeout=LAST_ATTEMPT, metadata=self._metadata)
                except grpc.RpcError as last:
                    raise absence(self._address, timeout, last.details() or "") from last

    def model_info(self) -> ModelInfo:
        """Ask for the model's classes, palette and provenance."""
        with server_errors():
            request = pb.GetModelInfoRequest(**self._model)
            response = self._stub.GetModelInfo(request, timeout=self._timeout, metadata=self._metadata)
            return ModelInfo.from_message(response.model)

    def segment(
        self, image: Image, options: SegmentOptions | None = None, *, camera_id: str = "", request_id: str = ""
    ) -> Segmentation:
        """Segment one frame.

        Parameters
        ----------
        image
            Pixels, the bytes of an image file, or its path.
        options
            What the answer should hold.
        camera_id
            Which camera took it; the server's log names it where it refuses the frame.
        request_id
            What the server's log and traces call the request; empty leaves it to the server.

        Raises
        ------
        ServerError
            If the server refuses it or does not answer.
        InputError
            If the array is no frame, or the file cannot be read.
        """
        request = _request(image, options, camera_id, self._model)
        with server_errors():
            response = self._stub.Segment(request, timeout=self._timeout, metadata=self._named(request_id))
            return Segmentation.from_message(response.segmentation)

    def stream(
        self,
        images: Iterable[Image],
        options: SegmentOptions | None = None,
        *,
        camera_id: str = "",
        request_id: str = "",
        overflow_policy: OverflowPolicy = OverflowPolicy.BLOCK,
        max_in_flight: int = 0,
    ) -> Iterator[Outcome]:
        """Segment a camera's frames; each has one outcome, in their order.

        Parameters
        ----------
        images
            The frames; read on a thread of its own, ahead of the outcomes.
        options
            What each answer should hold.
        camera_id
            Which camera took them.
        request_id
            What the server's log and traces call the stream; empty leaves it to the server.
        overflow_policy
            What happens to a frame that arrives while the server holds `max_in_flight` of them.
        max_in_flight
            0 means the server's default.

        Raises
        ------
        ServerError
            If the server refuses the stream or ends it. What is wrong with one frame is its outcome's `error`.
        Exception
            What `images` raises, when the frames before it have their outcomes.
        """
        config = _config(options, overflow_policy, max_in_flight, self._model)
        failure: list[Exception] = []

        def requests() -> Iterator[pb.StreamSegmentRequest]:
            yield config
            try:
                for sequence, image in enumerate(images):
                    yield _frame_request(image, camera_id, sequence)
            except Exception as error:  # raised when the frames before it have their outcomes
                failure.append(error)

        call = self._stub.StreamSegment(requests(), metadata=self._named(request_id))
        try:
            with server_errors(failure):
                for response in call:
                    yield Outcome.from_message(response)
            if failure:
                raise failure[0]
        finally:
            call.cancel()


class AsyncClient(_Connection):
    """The same on asyncio; the parameters and the errors are `Client`'s."""

    _grpc = grpc.aio

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until the server answers."""
        request = pb.GetModelInfoRequest(**self._model)
        with server_errors():
            try:
                await self._stub.GetModelInfo(request, timeout=timeout, wait_for_ready=True, metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
                try:
                    await self._stub.GetModelInfo(request, timeout=LAST_ATTEMPT, metadata=self._metadata)
                except grpc.RpcError as last:
                    raise absence(self._address, timeout, last.details() or "") from last

    async def model_info(self) -> ModelInfo:
        """Ask for the model's classes, palette and provenance."""
        with server_errors():
            request = pb.GetModelInfoRequest(**self._model)
            response = await self._stub.GetModelInfo(request, timeout=self._timeout, metadata=self._metadata)
            return ModelInfo.from_message(response.model)

    async def segment(
        self, image: Image, options: SegmentOptions | None = None, *, camera_id: str = "", request_id: str = ""
    ) -> Segmentation:
        """Segment one frame."""
        request = _request(image, options, camera_id, self._model)
        with server_errors():
            response = await self._stub.Segment(request, timeout=self._timeout, metadata=self._named(request_id))
            return Segmentation.from_message(response.segmentation)

    async def stream(
        self,
        images: Iterable[Image] | AsyncIterable[Image],
        options: SegmentOptions | None = None,
        *,
        camera_id: str = "",
        request_id: str = "",
        overflow_policy: OverflowPolicy = OverflowPolicy.BLOCK,
        max_in_flight: int = 0,
    ) -> AsyncIterator[Outcome]:
        """Segment a camera's frames; each has one outcome, in their order. `images` may be an asynchronous iterable."""
        config = _config(options, overflow_policy, max_in_flight, self._model)
        failure: list[Exception] = []

        async def requests() -> AsyncIterator[pb.StreamSegmentRequest]:
            yield config
            try:
                sequence = 0
                async for image in _each(images):
                    yield _frame_request(image, camera_id, sequence)
                    sequence += 1
            except Exception as error:  # raised when the frames before it have their outcomes
                failure.append(error)

        call = self._stub.StreamSegment(requests(), metadata=self._named(request_id))
        try:
            with server_errors(failure):
                async for response in call:
                    yield Outcome.from_message(response)
            if failure:
                raise failure[0]
        finally:
            call.cancel()


_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _request(image: Image, options: SegmentOptions | None, camera_id: str, model: dict[str, str]) -> pb.SegmentRequest:
    frame = wire.frame_message(_load(image), camera_id=camera_id)
    return pb.SegmentRequest(frame=frame, options=(options or SegmentOptions()).to_message(), **model)


def _config(
    options: SegmentOptions | None, overflow_policy: OverflowPolicy, max_in_flight: int, model: dict[str, str]
) -> pb.StreamSegmentRequest:
    config = pb.StreamConfig(
        options=(options or SegmentOptions()).to_message(),
        overflow_policy=wire.enum_value(overflow_policy, pb.OverflowPolicy),
        max_in_flight=max_in_flight,
        **model,
    )
    return pb.StreamSegmentRequest(config=config)


def _frame_request(image: Image, camera_id: str, sequence: int) -> pb.StreamSegmentRequest:
    return pb.StreamSegmentRequest(frame=wire.frame_message(_load(image), camera_id=camera_id, sequence=sequence))


def _load(image: Image) -> Pixels | bytes:
    return read_file(Path(image)) if isinstance(image, str | Path) else image


async def _each(images: Iterable[Image] | AsyncIterable[Image]) -> AsyncIterator[Image]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image
