"""The conversions alone, without a server."""

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onepixel.oip import open_inference_pb2 as pb

from serving.errors import InputError
from serving.frames import encode_jpeg, encode_png
from serving.model import Model
from serving.services import tensors

LIMITS = {"max_pixels": 200, "max_frames": 3}
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
FILES = [encode_png(frame) for frame in FRAMES]


def prefixed(*elements: bytes) -> bytes:
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def request(name: str, shape: Any, raw: bytes | None = None, datatype: str | None = None, **contents: Any) -> Any:
    datatype = datatype if datatype is not None else tensors.INPUTS.get(name, ("UINT8",))[0]
    tensor = {"name": name, "datatype": datatype, "shape": list(shape), "contents": contents or None}
    return pb.ModelInferRequest(inputs=[tensor], raw_input_contents=[] if raw is None else [raw])


def typed(values: Any) -> list[int]:
    return np.asarray(values).ravel().tolist()


GOOD = {
    "raw frames": request("frames", FRAMES.shape, FRAMES.tobytes()),
    "typed frames": request("frames", FRAMES.shape, uint_contents=typed(FRAMES)),
    "raw images": request("images", [2], prefixed(*FILES)),
    "typed images": request("images", [2], bytes_contents=FILES),
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD.keys())
def test_all_forms_give_the_same_frames(good: Any) -> None:
    frames = tensors.request_frames(good, **LIMITS)
    assert np.array_equal([frame() for frame in frames], FRAMES)
    assert all(frame().dtype == np.uint8 for frame in frames)


def test_a_raw_frame_is_a_view() -> None:
    (frame,) = tensors.request_frames(request("frames", [1, 4, 5, 3], FRAMES[0].tobytes()), **LIMITS)
    assert not frame().flags.owndata and frame().flags.c_contiguous


def two_inputs() -> Any:
    both = request("frames", [1, 1, 1, 3], b"abc")
    both.MergeFrom(request("images", [1], prefixed(FILES[0])))
    return both


def with_parameter(good: Any, parameter: str) -> Any:
    changed = pb.ModelInferRequest.FromString(good.SerializeToString())
    changed.inputs[0].parameters[parameter].string_param = "x"
    return changed


BAD: dict[str, tuple[Any, str]] = {
    "no input": (pb.ModelInferRequest(), "inputs: []; should be exactly one of ['frames', 'images']"),
    "two inputs": (two_inputs(), "inputs: ['frames', 'images']; should be exactly one"),
    "another input": (request("input_0", [1], b""), "inputs: ['input_0']; should be exactly one"),
    "a long name": (request("x" * 10_000, [1], b""), f"inputs: ['{'x' * 78}; should be"),
    "another datatype": (request("frames", [1, 1, 1, 3], b"", "FP32"), "datatype 'FP32'; should be 'UINT8'"),
    "no datatype": (request("images", [1], b"", ""), "input 'images': datatype ''; should be 'BYTES'"),
    "no contents": (request("frames", [1, 1, 1, 3]), "0 elements of contents.uint_contents; shape [1, 1, 1, 3]"),
    "both contents": (
        request("frames", [1, 1, 1, 3], b"abc", uint_contents=[1, 2, 3]),
        "has raw_input_contents and contents.uint_contents; should have one of the two",
    ),
    "two raw entries": (
        pb.ModelInferRequest(inputs=GOOD["raw frames"].inputs, raw_input_contents=[b"", b""]),
        "raw_input_contents: 2 entries for 1 input",
    ),
    "contents of another type": (
        request("frames", [1, 1, 1, 3], int_contents=[1, 2, 3]),
        "input 'frames': has ['contents.int_contents']; UINT8 belongs in contents.uint_contents",
    ),
    "shared memory": (
        with_parameter(GOOD["raw frames"], "shared_memory_region"),
        "input 'frames': parameter 'shared_memory_region' is not supported",
    ),
    "no shape": (request("frames", [], b"abc"), "shape []; should be [N, height, width, 3]"),
    "one frame without N": (request("frames", [1, 1, 3], b"abc"), "shape [1, 1, 3]; should be [N, height, width, 3]"),
    "channels first": (request("frames", [1, 3, 4, 4], bytes(48)), "shape [1, 3, 4, 4]; should be"),
    "a negative dimension": (request("frames", [-1, -1, 1, 3], b"abc"), "shape [-1, -1, 1, 3]; should be"),
    "a zero dimension": (request("frames", [1, 0, 4, 3], b""), "each at least 1"),
    "a product that overflows 64 bits": (
        request("frames", [1, 2**40, 2**40, 3], b"abc"),
        f"1 x {2**40} x {2**40} = {2**80} pixels; the limit is 200 pixels",
    ),
    "too many pixels": (request("frames", [2, 11, 10, 3], bytes(660)), "2 x 10 x 11 = 220 pixels; the limit is 200"),
    "too many frames": (request("frames", [4, 1, 1, 3], bytes(12)), "4 frames; this server takes at most 3"),
    "too few bytes": (request("frames", [1, 2, 2, 3], bytes(11)), "11 bytes of raw_input_contents; shape [1, 2, 2, 3]"),
    "too many bytes": (request("frames", [1, 2, 2, 3], bytes(13)), "[1, 2, 2, 3] takes 12"),
    "a shape of many dimensions": (request("frames", [1] * 10_000, b""), "shape [1, 1"),
    "images of two dimensions": (request("images", [1, 1], prefixed(FILES[0])), "shape [1, 1]; should be [N]"),
    "no images": (request("images", [0], b""), "shape [0]; should be [N], the number of files, at least 1"),
    "minus one image": (request("images", [-1], b""), "shape [-1]; should be [N]"),
    "too many images": (request("images", [2**62], b""), f"{2**62} frames; this server takes at most 3"),
    "a file without its length": (request("images", [1], FILES[0]), "within element 0 of 1; each should be its length"),
    "an element cut short": (request("images", [1], b"\x05\0\0\0abcd"), "ends at byte 8, within element 0 of 1"),
    "a length cut short": (request("images", [1], b"\x05\0"), "ends at byte 2, within element 0 of 1"),
    "an element too few": (request("images", [2], prefixed(FILES[0])), "within element 1 of 2"),
    "an element too many": (request("images", [1], prefixed(*FILES)), f"{len(FILES[1]) + 4} bytes of raw_input_conten"),
    "typed images too few": (request("images", [2], bytes_contents=FILES[:1]), "1 elements of contents.bytes_contents"),
    "no image": (request("images", [2], prefixed(FILES[0], b"hello")), "element 1: image: text, beginning 'hello'"),
    "an empty file": (request("images", [1], prefixed(b"")), "element 0: image: 0 bytes"),
    "images of two sizes": (
        request("images", [2], prefixed(FILES[0], encode_png(FRAMES[0, :3]))),
        "element 1 has 5 x 3 pixels, element 0 5 x 4; the pictures of one request should have one size",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD.keys())
def test_what_is_malformed_is_named(bad: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        tensors.request_frames(bad, **LIMITS)
    assert len(str(caught.value)) < 400


@given(
    name=st.sampled_from(sorted(tensors.INPUTS)),
    shape=st.lists(st.integers(-1, 4) | st.integers(-(2**63), 2**63 - 1), max_size=5),
    raw=st.binary(max_size=40) | st.sampled_from([prefixed(*FILES), FRAMES[0].tobytes()]) | st.none(),
    contents=st.lists(st.integers(0, 300), max_size=12),
)
def test_whatever_comes_is_frames_or_an_input_error(
    name: str, shape: list[int], raw: bytes | None, contents: list[int]
) -> None:
    sent = request(name, shape, raw, uint_contents=contents)
    try:
        frames = [frame() for frame in tensors.request_frames(sent, **LIMITS)]
    except InputError:
        return
    assert len(frames) == shape[0] and len({frame.shape for frame in frames}) == 1


def test_a_huge_picture_is_refused_by_its_header(huge_png: bytes) -> None:
    with pytest.raises(InputError, match=r"1 x 10000 x 10000 = 100000000 pixels; the limit is 200 pixels"):
        tensors.request_frames(request("images", [1], prefixed(huge_png)), **LIMITS)


def test_the_limit_holds_for_all_frames_together() -> None:
    shape = (2, 10, 10)
    assert len(tensors.request_frames(request("frames", [*shape, 3], bytes(600)), **LIMITS)) == 2
    files = [encode_png(np.zeros((*shape[1:], 3), np.uint8))] * 3
    with pytest.raises(InputError, match="3 x 10 x 10 = 300 pixels"):
        tensors.request_frames(request("images", [3], prefixed(*files)), **LIMITS)


def test_damage_shows_when_a_frame_is_decoded() -> None:
    jpeg = encode_jpeg(np.random.default_rng(0).integers(0, 256, (10, 10, 3), dtype=np.uint8))
    _, frame = tensors.request_frames(request("images", [2], prefixed(jpeg, jpeg[:-40])), **LIMITS)
    with pytest.raises(InputError, match=r"input 'images', element 1: image: the JPEG is truncated"):
        frame()
    (frame,) = tensors.request_frames(request("frames", [1, 1, 1, 3], uint_contents=[1, 256, 3]), **LIMITS)
    with pytest.raises(InputError, match=r"contents.uint_contents holds 256; UINT8 is from 0 to 255"):
        frame()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([{"name": "probabilities"}], "outputs: 'probabilities' is unknown; should be of ['class_ids', 'confidence']"),
        ([{"name": "class_ids"}, {"name": "class_ids"}], "outputs: ['class_ids', 'class_ids']; each should be"),
        (
            [{"name": "class_ids", "parameters": {"classification": {"int64_param": 3}}}],
            "output 'class_ids': parameter 'classification' is not supported",
        ),
    ],
)
def test_bad_outputs(outputs: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        tensors.requested_outputs(pb.ModelInferRequest(outputs=outputs))


@pytest.fixture
def answers() -> list[Any]:
    """Masks of 2 x 2 for frames of 2 x 4."""

    def answer(class_ids: list[list[int]], confidence: list[list[int]]) -> SimpleNamespace:
        planes = {"class_ids": np.array(class_ids, np.uint8), "confidence": np.array(confidence, np.uint8)}
        return SimpleNamespace(**planes, height=2, width=4)

    return [answer([[0, 1], [2, 255]], [[9, 8], [7, 6]]), answer([[3, 3], [4, 4]], [[255, 0], [128, 127]])]


IDS = [0, 0, 1, 1, 2, 2, 255, 255, 3, 3, 3, 3, 4, 4, 4, 4]
CONFIDENCE = [9, 9, 8, 8, 7, 7, 6, 6, 255, 255, 0, 0, 128, 128, 127, 127]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], [("class_ids", IDS), ("confidence", CONFIDENCE)]),
        (["confidence"], [("confidence", CONFIDENCE)]),
        (["confidence", "class_ids"], [("confidence", CONFIDENCE), ("class_ids", IDS)]),
    ],
)
@pytest.mark.parametrize("form", ["raw images", "typed images"])
def test_an_answer_has_the_form_and_the_order_of_its_request(
    model: Model, answers: list[Any], wanted: list[str], expected: list[tuple[str, list[int]]], form: str
) -> None:
    asked = pb.ModelInferRequest.FromString(GOOD[form].SerializeToString())
    asked.id = "frame 7"
    asked.outputs.extend(pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in wanted)
    response = tensors.response_message(asked, tensors.requested_outputs(asked), model, answers)
    assert (response.model_name, response.model_version, response.id) == ("tiny", "1", "frame 7")
    assert [output.name for output in response.outputs] == [name for name, _ in expected]
    for output in response.outputs:
        assert output.datatype == "UINT8" and list(output.shape) == [2, 2, 4]
    raw = [list(data) for data in response.raw_output_contents]
    contents = [list(output.contents.uint_contents) for output in response.outputs]
    values = [values for _, values in expected]
    assert (raw, contents) == ((values, [[]] * len(values)) if form == "raw images" else ([], values))


def test_a_plane_that_is_no_block_of_memory_is_packed_all_the_same(model: Model) -> None:
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4).T
    answer = SimpleNamespace(class_ids=plane, confidence=plane, height=4, width=3)
    response = tensors.response_message(GOOD["raw frames"], ["class_ids"], model, [answer])
    assert response.raw_output_contents == [plane.tobytes()]


def test_metadata_describes_the_tensors(model: Model) -> None:
    message = tensors.metadata_message(model, ["1", "2"])
    assert (message.name, list(message.versions), message.platform) == ("tiny", ["1", "2"], "onnxruntime_onnx")
    described = [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in (*message.inputs, *message.outputs)]
    assert described == [
        ("frames", "UINT8", [-1, -1, -1, 3]),
        ("images", "BYTES", [-1]),
        ("class_ids", "UINT8", [-1, -1, -1]),
        ("confidence", "UINT8", [-1, -1, -1]),
    ]
