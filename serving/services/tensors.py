"""Between the Open Inference Protocol's tensors and frames and masks.

Names, shapes, lengths and sizes are checked before anything is decoded, and frames are handed on as functions, so that
a full queue refuses before it pays for them. An answer has the form of its request, raw bytes or typed elements, as in
MLServer and KServe, so that who speaks one form is never answered in the other. Triton answers typed requests with raw
bytes, but its own client sends raw alone, and reads no typed numbers.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onepixel.oip import open_inference_pb2 as pb

from serving.errors import InputError
from serving.frames import Pixels, decode_image, image_size, resize_mask
from serving.model import Model

INPUTS = {"frames": ("UINT8", [-1, -1, -1, 3]), "images": ("BYTES", [-1])}
"""Datatype and shape of what a request may hold: RGB frames, or the files of pictures."""
OUTPUTS = {"class_ids": ("UINT8", [-1, -1, -1]), "confidence": ("UINT8", [-1, -1, -1])}
"""Datatype and shape of what is answered."""

Frame = Callable[[], Pixels]
"""Decodes a frame, uint8 [H, W, 3] RGB, when it is called."""

_CONTENTS = {"UINT8": "uint_contents", "BYTES": "bytes_contents"}
_REFUSED = ("classification", "shared_memory_region")  # parameters of Triton's that would change what is answered


@dataclass(frozen=True)
class Answer:
    """What the engine made of one frame."""

    class_ids: Pixels
    """uint8 [H, W], of the model's input size."""
    confidence: Pixels
    """uint8 [H, W], 255 x the winning probability, likewise."""
    height: int
    """Rows of the frame."""
    width: int
    """Pixels in a row of the frame."""


def metadata_message(model: Model, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """Describe a model's tensors, and name the versions of it that are served."""
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=versions,
        platform="onnxruntime_onnx",
        inputs=[tensor(name=name, datatype=kind, shape=shape) for name, (kind, shape) in INPUTS.items()],
        outputs=[tensor(name=name, datatype=kind, shape=shape) for name, (kind, shape) in OUTPUTS.items()],
    )


def request_frames(request: pb.ModelInferRequest, *, max_pixels: int, max_frames: int) -> list[Frame]:
    """Check a request's one input and return its frames, not decoded yet.

    Parameters
    ----------
    request
        The message.
    max_pixels
        Limit of the pixels of all frames together.
    max_frames
        Limit of their number.

    Returns
    -------
    At least one frame; all are of one size. A frame raises `InputError` if its image is damaged, or if its typed
    elements are not from 0 to 255.

    Raises
    ------
    InputError
        If there is not exactly one input, or its name, datatype, shape or contents are wrong or too large.
    """
    if len(request.inputs) != 1 or request.inputs[0].name not in INPUTS:
        names = [tensor.name for tensor in request.inputs]
        raise InputError(f"inputs: {_short(names)}; should be exactly one of {list(INPUTS)}")
    tensor = request.inputs[0]
    _refuse_parameters(f"input '{tensor.name}'", tensor)
    datatype, _ = INPUTS[tensor.name]
    if tensor.datatype != datatype:
        raise InputError(f"input '{tensor.name}': datatype {_short(tensor.datatype)}; should be '{datatype}'")
    contents = _contents(request, tensor)
    read = _frames if tensor.name == "frames" else _images
    return read(list(tensor.shape), contents, max_pixels, max_frames)


def requested_outputs(request: pb.ModelInferRequest) -> list[str]:
    """Return the names of the outputs that a request asks for; all where it asks for none.

    Raises
    ------
    InputError
        If it asks for one that is not there, for one twice, or for another form of it.
    """
    names = [tensor.name for tensor in request.outputs]
    for tensor in request.outputs:
        if tensor.name not in OUTPUTS:
            raise InputError(f"outputs: {_short(tensor.name)} is unknown; should be of {list(OUTPUTS)}")
        _refuse_parameters(f"output '{tensor.name}'", tensor)
    if len(set(names)) != len(names):
        raise InputError(f"outputs: {_short(names)}; each should be asked for once")
    return names or list(OUTPUTS)


def response_message(
    request: pb.ModelInferRequest, outputs: Sequence[str], model: Model, answers: Sequence[Answer]
) -> pb.ModelInferResponse:
    """Pack the masks of a request's frames.

    Parameters
    ----------
    request
        What is answered; its id is returned, and its form kept.
    outputs
        Names of the outputs, in order.
    model
        The model that answered.
    answers
        One per frame; all of one height and width.
    """
    response = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    response.parameters["model_digest"].string_param = model.digest
    shape = [len(answers), answers[0].height, answers[0].width]
    for name in outputs:
        output = response.outputs.add(name=name, datatype=OUTPUTS[name][0], shape=shape)
        planes = (resize_mask(getattr(answer, name), answer.height, answer.width) for answer in answers)
        data = b"".join(np.ascontiguousarray(plane).data for plane in planes)
        if request.raw_input_contents:
            response.raw_output_contents.append(data)
        else:
            output.contents.uint_contents.extend(data)
    return response


def _contents(request: pb.ModelInferRequest, tensor: Any) -> bytes | Any:
    """Return the one raw entry as bytes, or else the typed elements as the message holds them."""
    typed = [field.name for field, _ in tensor.contents.ListFields()]
    if request.raw_input_contents:
        if typed:
            raise InputError(
                f"input '{tensor.name}': has raw_input_contents and contents.{typed[0]}; should have one of the two"
            )
        if len(request.raw_input_contents) != 1:
            raise InputError(f"raw_input_contents: {len(request.raw_input_contents)} entries for 1 input")
        return request.raw_input_contents[0]
    field = _CONTENTS[tensor.datatype]
    if typed not in ([], [field]):
        raise InputError(
            f"input '{tensor.name}': has {_short(['contents.' + name for name in typed])}; {tensor.datatype} belongs "
            f"in contents.{field}, or in raw_input_contents"
        )
    return getattr(tensor.contents, field)


def _frames(shape: list[int], contents: bytes | Any, max_pixels: int, max_frames: int) -> list[Frame]:
    if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
        raise InputError(f"input 'frames': shape {_short(shape)}; should be [N, height, width, 3], each at least 1")
    count, height, width, _ = shape
    _check_count("frames", count, max_frames)
    _check_pixels("frames", count, height, width, max_pixels)
    what = "bytes of raw_input_contents" if isinstance(contents, bytes) else "elements of contents.uint_contents"
    if len(contents) != count * height * width * 3:
        raise InputError(f"input 'frames': {len(contents)} {what}; shape {shape} takes {count * height * width * 3}")

    @functools.cache
    def batch() -> Pixels:
        if isinstance(contents, bytes):
            return np.frombuffer(contents, np.uint8).reshape(shape)
        elements = np.array(contents, np.uint32)
        if (largest := int(elements.max())) > 255:
            raise InputError(f"input 'frames': contents.uint_contents holds {largest}; UINT8 is from 0 to 255")
        return elements.astype(np.uint8).reshape(shape)

    def frame(index: int) -> Pixels:
        return batch()[index]

    return [functools.partial(frame, index) for index in range(count)]


def _images(shape: list[int], contents: bytes | Any, max_pixels: int, max_frames: int) -> list[Frame]:
    if len(shape) != 1 or shape[0] < 1:
        raise InputError(f"input 'images': shape {_short(shape)}; should be [N], the number of files, at least 1")
    (count,) = shape
    _check_count("images", count, max_frames)
    files = _elements(contents, count) if isinstance(contents, bytes) else contents
    if len(files) != count:
        raise InputError(
            f"input 'images': {len(files)} elements of contents.bytes_contents; shape {shape} takes {count}"
        )
    sizes = [_named(index, image_size, data) for index, data in enumerate(files)]
    height, width = sizes[0]
    for index, size in enumerate(sizes):
        if size != (height, width):
            raise InputError(
                f"input 'images': element {index} has {size[1]} x {size[0]} pixels, element 0 {width} x {height}; the "
                "pictures of one request should have one size"
            )
    _check_pixels("images", count, height, width, max_pixels)
    decode = functools.partial(decode_image, max_pixels=max_pixels)
    return [functools.partial(_named, index, decode, data) for index, data in enumerate(files)]


def _elements(raw: bytes, count: int) -> list[bytes]:
    """Split BYTES: each element is its length as 4 bytes, little-endian, then its bytes."""
    elements: list[bytes] = []
    position = 0
    for index in range(count):
        start = position + 4
        position = start + int.from_bytes(raw[position:start], "little")
        if max(start, position) > len(raw):
            raise InputError(
                f"input 'images': raw_input_contents ends at byte {len(raw)}, within element {index} of {count}; each "
                "should be its length as 4 bytes, little-endian, then its bytes"
            )
        elements.append(raw[start:position])
    if position != len(raw):
        raise InputError(
            f"input 'images': {len(raw) - position} bytes of raw_input_contents follow the {count} elements that the "
            "shape says"
        )
    return elements


def _named(index: int, read: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return read(data)
    except InputError as error:
        raise InputError(f"input 'images', element {index}: {error}") from error


def _check_count(name: str, count: int, max_frames: int) -> None:
    if count > max_frames:
        raise InputError(f"input '{name}': {count} frames; this server takes at most {max_frames} in one request")


def _check_pixels(name: str, count: int, height: int, width: int, max_pixels: int) -> None:
    if count * height * width > max_pixels:
        raise InputError(
            f"input '{name}': {count} x {width} x {height} = {count * height * width} pixels; the limit is "
            f"{max_pixels} pixels in one request"
        )


def _refuse_parameters(what: str, tensor: Any) -> None:
    for parameter in _REFUSED:
        if parameter in tensor.parameters:
            raise InputError(f"{what}: parameter '{parameter}' is not supported; leave it out")


def _short(value: object) -> str:
    return f"{value!r:.80}"  # the client's, and a status has to fit into a header
