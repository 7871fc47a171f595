"""What TorchServe's worker calls: the same decoding, resizing, model and encoding as our own server's.

A request is a serialised `SegmentRequest` (gRPC input `request`, or an HTTP body of type application/x-protobuf) and is
answered by a serialised `StreamSegmentResponse`, a segmentation or an error, since TorchServe's gRPC cannot tell a
request's status; or it is an image file (`data`, or any other HTTP body) and is answered by a PNG of class ids. The
frames of a batch go through the network together; one that cannot be read fails alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from onepixel.v1 import segmentation_pb2 as pb

from serving import wire
from serving.errors import InputError
from serving.frames import MAX_PIXELS, Pixels, decode_image, encode_png, resize_frame, resize_mask
from serving.model import Model
from serving.settings import EngineSettings
from serving.wire import SegmentOptions

PROTOBUF = "application/x-protobuf"
"""Content type of our own messages over HTTP."""
CALL_HEADER = "onepixel-call"
"""HTTP header that says `model-info` where a request asks for the model's description."""
MODEL_INFO = "model-info"

_handler: "Handler | None" = None


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
    """Answer a batch; the first call, without data, loads the model."""
    global _handler
    if _handler is None:
        _handler = Handler(Path(context.system_properties["model_dir"]), context.manifest["model"])
    return None if data is None else _handler.answer(data, context)


@dataclass(frozen=True)
class _Frame:
    """A frame of a batch that could be read."""

    pixels: Pixels
    resized: Pixels
    options: SegmentOptions
    image_wanted: bool
    decode_ns: int


class Handler:
    """One model and its batches.

    Parameters
    ----------
    folder
        Where TorchServe has unpacked the archive.
    manifest
        The archive's `model`: name, version, file.
    """

    def __init__(self, folder: Path, manifest: dict[str, str]) -> None:
        self._model = Model.load(
            folder / manifest["serializedFile"],
            name=manifest["modelName"],
            version=manifest["modelVersion"],
            settings=EngineSettings(threads=1),  # a worker has one core; TorchServe starts as many as it is told
        )

    def answer(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer each request of a batch; sets its status and headers in TorchServe's context."""
        answers: list[bytes] = [b""] * len(data)
        frames: dict[int, _Frame] = {}
        for index, entry in enumerate(data):
            try:
                if _asks_for_info(entry, context, index):
                    response = pb.GetModelInfoResponse(model=wire.model_message(self._model))
                    answers[index] = self._ended(context, index, response.SerializeToString(), PROTOBUF)
                else:
                    frames[index] = self._read(entry, context, index)
            except (InputError, DecodeError) as error:
                answers[index] = self._failed(str(error), entry, context, index)
        if frames:
            began = time.monotonic_ns()
            masks = self._model.infer(np.stack([frame.resized for frame in frames.values()]))
            inference_ns = time.monotonic_ns() - began
            for (index, frame), class_ids, confidence in zip(frames.items(), *masks, strict=True):
                answers[index] = self._encode(frame, class_ids, confidence, inference_ns, context, index)
        return answers

    def _read(self, entry: dict[str, Any], context: Any, index: int) -> _Frame:
        began = time.monotonic_ns()
        content = entry.get("request", entry.get("data", entry.get("body")))
        if not isinstance(content, bytes | bytearray):
            raise InputError("the request holds no image: send its bytes as they are, or a SegmentRequest")
        is_message = _is_message(entry, context, index)
        if is_message:
            request = pb.SegmentRequest.FromString(bytes(content))
            options = SegmentOptions.from_message(request.options)
            pixels = wire.frame_pixels(request.frame, MAX_PIXELS)
        else:
            options, pixels = SegmentOptions(), decode_image(bytes(content))
        resized = resize_frame(pixels, *self._model.input_size)
        return _Frame(pixels, resized, options, not is_message, time.monotonic_ns() - began)

    def _encode(
        self, frame: _Frame, class_ids: Pixels, confidence: Pixels, inference_ns: int, context: Any, index: int
    ) -> bytes:
        began = time.monotonic_ns()
        height, width = frame.pixels.shape[:2]
        mask = resize_mask(class_ids, height, width)
        if frame.image_wanted:
            return self._ended(context, index, bytes(encode_png(mask)), "image/png")
        model, options = self._model, frame.options
        rest = pb.Segmentation(model_name=model.name, model_version=model.version, model_digest=model.digest)
        masks = wire.mask_chunks(mask, options.mask_encoding)
        sure = None
        if options.want_confidence:
            sure = wire.mask_chunks(resize_mask(confidence, height, width), options.mask_encoding)
        if options.want_histogram:
            rest.histogram.extend(np.bincount(mask.ravel(), minlength=len(model.metadata.classes)).tolist())
        rest.timing.decode.FromNanoseconds(frame.decode_ns)
        rest.timing.inference.FromNanoseconds(inference_ns)
        rest.timing.encode.FromNanoseconds(time.monotonic_ns() - began)
        number = pb.StreamSegmentResponse.SEGMENTATION_FIELD_NUMBER
        answer = b"".join(wire.length_delimited(number, wire.segmentation_chunks(rest, masks, sure)))
        return self._ended(context, index, answer, PROTOBUF)

    def _failed(self, message: str, entry: dict[str, Any], context: Any, index: int) -> bytes:
        if not _is_message(entry, context, index):
            context.set_response_status(400, idx=index, phrase="Bad Request")
            return message.encode()
        response = pb.StreamSegmentResponse()
        response.error.code = code_pb2.INVALID_ARGUMENT
        response.error.message = message
        return response.SerializeToString()

    def _ended(self, context: Any, index: int, answer: bytes, content_type: str) -> bytes:
        context.set_response_content_type(index, content_type)
        for name, value in (("version", self._model.version), ("digest", self._model.digest)):
            context.set_response_header(index, f"onepixel-model-{name}", value)
        return answer


def _header(context: Any, index: int, name: str) -> str:
    """Return an HTTP header of a request, in whichever case TorchServe hands it on."""
    read: Callable[[int, str], str | None] = context.get_request_header
    return read(index, name) or read(index, name.title()) or ""


def _asks_for_info(entry: dict[str, Any], context: Any, index: int) -> bool:
    return MODEL_INFO in entry or _header(context, index, CALL_HEADER) == MODEL_INFO


def _is_message(entry: dict[str, Any], context: Any, index: int) -> bool:
    """Tell whether the request is a `SegmentRequest`; else it is an image."""
    return "request" in entry or ("body" in entry and _header(context, index, "content-type") == PROTOBUF)
