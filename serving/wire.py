"""Between the wire contract's messages and the arrays and objects of Python, both ways.

The server and the client share it, so that each conversion has its reverse beside it. Enum values that this version
does not know, and messages that lack a required part, are `InputError`.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from google.protobuf.duration_pb2 import Duration
from onepixel.v1 import segmentation_pb2 as pb

from serving.errors import InputError
from serving.frames import ImageFormat, PixelFormat, Pixels, decode_image, decode_raw
from serving.masks import MaskEncoding, decode_mask, encode_mask
from serving.metadata import ClassDescription

if TYPE_CHECKING:
    from serving.model import Model  # a client needs no runtime

MAX_CAMERA_ID = 256
"""Characters. It is echoed on each outcome of a stream, of which many may wait."""

Choice = TypeVar("Choice", bound=Enum)


class OverflowPolicy(Enum):
    """What happens to a frame that arrives while a stream holds as many as it may."""

    DROP_OLDEST = "DROP_OLDEST"
    DROP_NEWEST = "DROP_NEWEST"
    BLOCK = "BLOCK"


@dataclass(frozen=True)
class SegmentOptions:
    """What an answer should hold."""

    mask_encoding: MaskEncoding = MaskEncoding.RAW
    """How the masks travel; they arrive the same."""
    want_confidence: bool = False
    """Whether to answer the winning class's probability per pixel too."""
    want_histogram: bool = False
    """Whether to answer the pixels per class too."""
    max_age: float | None = None
    """Seconds from a frame's arrival at the server after which it is not worth an answer."""

    def to_message(self) -> pb.SegmentOptions:
        """Return the message."""
        message = pb.SegmentOptions(
            mask_encoding=enum_value(self.mask_encoding, pb.MaskEncoding),
            want_confidence=self.want_confidence,
            want_histogram=self.want_histogram,
        )
        if self.max_age is not None:
            message.max_age.FromNanoseconds(round(self.max_age * 1e9))
        return message

    @classmethod
    def from_message(cls, message: pb.SegmentOptions) -> "SegmentOptions":
        """Read and check the message."""
        max_age = seconds(message.max_age) if message.HasField("max_age") else None
        if max_age is not None and max_age <= 0:
            raise InputError(f"options.max_age: {max_age} s; should be more than 0")
        return cls(
            mask_encoding=enum_member(message.mask_encoding, MaskEncoding, pb.MaskEncoding, "options.mask_encoding")
            or MaskEncoding.RAW,
            want_confidence=message.want_confidence,
            want_histogram=message.want_histogram,
            max_age=max_age,
        )


@dataclass(frozen=True)
class Timings:
    """Seconds that one frame spent per stage on the server."""

    decode: float
    """Bytes to pixels and resizing to the model's input."""
    queue: float
    """Waiting for the engine."""
    inference: float
    """In the engine."""
    encode: float
    """Resizing back and encoding the masks."""


@dataclass(frozen=True)
class Segmentation:
    """The answer for one frame."""

    mask: Pixels
    """Class ids, uint8 [H, W] of the frame's own size."""
    confidence: Pixels | None
    """255 x the winning probability, uint8 [H, W]; only when asked for."""
    histogram: tuple[int, ...] | None
    """Pixels per class, by class id; only when asked for."""
    model_name: str
    """The model that answered."""
    model_version: str
    """Its version."""
    model_digest: str
    """sha256 of the served file's bytes, in hexadecimal."""
    timings: Timings
    """Where the time went."""

    @classmethod
    def from_message(cls, message: pb.Segmentation) -> "Segmentation":
        """Decode the message's masks."""
        timing = message.timing
        return cls(
            mask=_decode(message.mask),
            confidence=_decode(message.confidence) if message.HasField("confidence") else None,
            histogram=tuple(message.histogram) or None,
            model_name=message.model_name,
            model_version=message.model_version,
            model_digest=message.model_digest,
            timings=Timings(
                seconds(timing.decode), seconds(timing.queue), seconds(timing.inference), seconds(timing.encode)
            ),
        )


@dataclass(frozen=True)
class ModelInfo:
    """A served model."""

    name: str
    """What requests call it."""
    version: str
    """Its version."""
    digest: str
    """sha256 of the served file's bytes, in hexadecimal."""
    classes: tuple[ClassDescription, ...]
    """The classes, by ascending id."""
    ignored_id: int
    """The mask value that stands for no class."""
    input_size: tuple[int, int]
    """Height and width that frames are resized to before inference, pixels."""
    metadata: dict[str, str]
    """The ONNX file's metadata, verbatim."""

    @cached_property
    def palette(self) -> Pixels:
        """Colours by mask value, uint8 [256, 3] RGB, so that `palette[mask]` is a picture; no class is black."""
        palette = np.zeros((256, 3), np.uint8)
        for description in self.classes:
            palette[description.id] = description.colour
        return palette

    @classmethod
    def from_message(cls, message: pb.ModelInfo) -> "ModelInfo":
        """Read the message."""
        return cls(
            name=message.name,
            version=message.version,
            digest=message.digest,
            classes=tuple(
                ClassDescription(
                    id=entry.id,
                    name=entry.name,
                    category=entry.category,
                    colour=(entry.colour >> 16 & 0xFF, entry.colour >> 8 & 0xFF, entry.colour & 0xFF),
                )
                for entry in message.classes
            ),
            ignored_id=message.ignored_id,
            input_size=(message.input_height, message.input_width),
            metadata=dict(message.metadata),
        )


def model_message(model: "Model") -> pb.ModelInfo:
    """Describe a loaded model."""
    height, width = model.input_size
    return pb.ModelInfo(
        name=model.name,
        version=model.version,
        digest=model.digest,
        classes=[
            pb.ClassInfo(
                id=description.id,
                name=description.name,
                category=description.category,
                colour=description.colour[0] << 16 | description.colour[1] << 8 | description.colour[2],
            )
            for description in model.metadata.classes
        ],
        ignored_id=model.metadata.ignored_id,
        input_width=width,
        input_height=height,
        metadata=model.properties,
    )


Chunks = list[bytes | memoryview]
"""A serialised message in pieces, to be joined once."""


def length_delimited(number: int, chunks: Chunks) -> Chunks:
    """Return the field of a number whose value (bytes, text or a message) is in chunks.

    protobuf copies a mask of two megapixels three times on its way to the wire: into the message, into its parent, and
    into the serialised bytes. Fields put together by hand are copied once. Where an embedded message comes in parts,
    protobuf's parsers merge them.
    """
    assert number < 16, "a tag of one byte"
    size = sum(len(chunk) for chunk in chunks)
    header = bytearray([number << 3 | 2])
    while size > 0x7F:
        header.append(size & 0x7F | 0x80)
        size >>= 7
    header.append(size)
    return [bytes(header), *chunks]


def mask_chunks(mask: Pixels, encoding: MaskEncoding) -> Chunks:
    """Serialise a `Mask`, uint8 [H, W]."""
    height, width = mask.shape
    header = pb.Mask(width=width, height=height, encoding=enum_value(encoding, pb.MaskEncoding))
    return [header.SerializeToString(), *length_delimited(_MASK_DATA, [encode_mask(mask, encoding)])]


def segmentation_chunks(rest: pb.Segmentation, mask: Chunks, confidence: Chunks | None) -> Chunks:
    """Serialise a `Segmentation`: its masks as chunks, and the rest of it."""
    chunks = length_delimited(_SEGMENTATION_MASK, mask)
    if confidence is not None:
        chunks += length_delimited(_SEGMENTATION_CONFIDENCE, confidence)
    return [*chunks, rest.SerializeToString()]


def frame_pixels(frame: pb.Frame, max_pixels: int) -> Pixels:
    """Decode a frame's image.

    Parameters
    ----------
    frame
        The message.
    max_pixels
        Limit of width x height, checked before decoding.

    Returns
    -------
    uint8 [H, W, 3] RGB.

    Raises
    ------
    InputError
        If it has no image, or one that cannot be decoded, or its camera's id is too long.
    """
    if len(frame.camera_id) > MAX_CAMERA_ID:
        raise InputError(f"frame.camera_id: {len(frame.camera_id)} characters; at most {MAX_CAMERA_ID}")
    kind = frame.WhichOneof("image")
    if kind == "encoded":
        image_format = enum_member(frame.encoded.format, ImageFormat, pb.ImageFormat, "encoded.format")
        return decode_image(frame.encoded.data, image_format=image_format, max_pixels=max_pixels)
    if kind == "raw":
        raw = frame.raw
        pixel_format = enum_member(raw.format, PixelFormat, pb.PixelFormat, "raw.format")
        if pixel_format is None:
            raise InputError("raw.format: not given; should be RGB8, BGR8, NV12 or MONO8")
        return decode_raw(
            raw.data,
            height=raw.height,
            width=raw.width,
            stride=raw.stride,
            pixel_format=pixel_format,
            max_pixels=max_pixels,
        )
    raise InputError("frame: holds no image; fill `encoded` or `raw`")


def frame_message(image: Pixels | bytes, *, camera_id: str = "", sequence: int = 0) -> pb.Frame:
    """Pack a frame: pixels (uint8 [H, W, 3] RGB or [H, W] grey) as they are, bytes as an encoded file.

    Raises
    ------
    InputError
        If the array is of another shape or dtype.
    """
    frame = pb.Frame(camera_id=camera_id, sequence=sequence)
    if isinstance(image, bytes):
        frame.encoded.data = image
        return frame
    if not isinstance(image, np.ndarray):
        raise InputError(f"frame: a {type(image).__name__}; should be a numpy array, or the bytes of an image file")
    grey = image.ndim == 2
    if image.dtype != np.uint8 or not (grey or (image.ndim == 3 and image.shape[2] == 3)):
        raise InputError(f"frame: {image.dtype} {list(image.shape)}; should be uint8 [H, W, 3] RGB or [H, W] grey")
    frame.raw.height, frame.raw.width = image.shape[:2]
    frame.raw.format = pb.PIXEL_FORMAT_MONO8 if grey else pb.PIXEL_FORMAT_RGB8
    frame.raw.data = image.tobytes()
    return frame


def enum_member(value: int, members: type[Choice], message_enum: type, field: str) -> Choice | None:
    """Turn an enum's number into our member; None for UNSPECIFIED.

    Raises
    ------
    InputError
        If the number is not one of this version's contract.
    """
    if value == 0:
        return None
    by_value = {enum_value(member, message_enum): member for member in members}
    if value not in by_value:
        raise InputError(f"{field}: {value} is unknown; should be one of {[member.value for member in members]}")
    return by_value[value]


def enum_value(member: Enum, message_enum: type) -> Any:
    """Turn our member into the enum's number."""
    return message_enum.Value(_PREFIXES[type(member)] + member.value)  # type: ignore[attr-defined]


def seconds(duration: Duration) -> float:
    """Return a duration in seconds."""
    return duration.seconds + duration.nanos * 1e-9


_MASK_DATA = pb.Mask.DATA_FIELD_NUMBER
_SEGMENTATION_MASK = pb.Segmentation.MASK_FIELD_NUMBER
_SEGMENTATION_CONFIDENCE = pb.Segmentation.CONFIDENCE_FIELD_NUMBER
_PREFIXES = {
    ImageFormat: "IMAGE_FORMAT_",
    PixelFormat: "PIXEL_FORMAT_",
    MaskEncoding: "MASK_ENCODING_",
    OverflowPolicy: "OVERFLOW_POLICY_",
}


def _decode(mask: pb.Mask) -> Pixels:
    encoding = enum_member(mask.encoding, MaskEncoding, pb.MaskEncoding, "mask.encoding") or MaskEncoding.RAW
    return decode_mask(mask.data, encoding, height=mask.height, width=mask.width)
