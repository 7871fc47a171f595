"""The handler as TorchServe calls it: batches of all kinds of requests."""

import json
import zipfile

import numpy as np
import pytest
from onepixel.v1 import segmentation_pb2 as pb

from serving import wire
from serving.errors import InputError
from serving.frames import decode_image, encode_png
from serving.masks import MaskEncoding
from serving.torchserve.handler import MODEL_INFO, PROTOBUF, Handler
from serving.torchserve.package import package, read_manifest
from serving.wire import Segmentation, SegmentOptions


class Context:
    """What TorchServe 0.12's context answers a handler (ts/context.py), for a batch of requests."""

    def __init__(self, headers=()):
        self._headers = dict(headers)
        self.statuses, self.types, self.answered = {}, {}, {}

    def get_request_header(self, index, name):
        return self._headers.get((index, name))

    def set_response_status(self, code=200, phrase="", idx=0):
        self.statuses[idx] = code

    def set_response_content_type(self, index, value):
        self.types[index] = value

    def set_response_header(self, index, name, value):
        self.answered[index, name] = value


@pytest.fixture(scope="module")
def handler(model_path):
    manifest = {"modelName": "tiny", "modelVersion": "3", "serializedFile": model_path.name}
    return Handler(model_path.parent, manifest)


def request(frame, **options):
    message = pb.SegmentRequest(frame=wire.frame_message(frame), options=SegmentOptions(**options).to_message())
    return bytearray(message.SerializeToString())


def outcome(answer):
    return pb.StreamSegmentResponse.FromString(answer)


def test_a_batch_of_all_kinds_is_answered_each_in_its_own_way(handler, model, frame):
    small = frame[:10, :14].copy()
    context = Context({(2, "content-type"): PROTOBUF})
    answers = handler.answer(
        [
            {"request": request(frame, mask_encoding=MaskEncoding.RLE, want_confidence=True, want_histogram=True)},
            {"data": bytearray(encode_png(small))},
            {"body": request(small)},
            {MODEL_INFO: bytearray(b"1")},
        ],
        context,
    )
    first = Segmentation.from_message(outcome(answers[0]).segmentation)
    mask, confidence = model.segment(frame)
    np.testing.assert_array_equal(first.mask, mask)
    np.testing.assert_array_equal(first.confidence, confidence)
    assert first.histogram == tuple(np.bincount(mask.ravel(), minlength=3))
    assert (first.model_name, first.model_version, first.model_digest) == ("tiny", "3", model.digest)
    np.testing.assert_array_equal(decode_image(answers[1])[..., 0], model.segment(small)[0])
    third = Segmentation.from_message(outcome(answers[2]).segmentation)
    np.testing.assert_array_equal(third.mask, model.segment(small)[0])
    assert pb.GetModelInfoResponse.FromString(answers[3]).model.name == "tiny"
    assert context.types == {0: PROTOBUF, 1: "image/png", 2: PROTOBUF, 3: PROTOBUF} and context.statuses == {}
    assert context.answered[1, "onepixel-model-digest"] == model.digest


def test_a_bad_frame_fails_alone(handler, model, frame):
    context = Context({(3, "content-type"): PROTOBUF})
    answers = handler.answer(
        [
            {"request": request(b"\x89PNG\r\n\x1a\nbroken")},
            {"data": bytearray(b"no image")},
            {"request": request(frame)},
            {"body": bytearray(b"\xff\xff\xff")},
            {"data": "text"},
            {"request": 7},
        ],
        context,
    )
    assert outcome(answers[0]).error.code == 3 and "truncated or damaged" in outcome(answers[0]).error.message
    assert context.statuses == {1: 400, 4: 400} and b"image" in answers[1]
    good = Segmentation.from_message(outcome(answers[2]).segmentation)
    np.testing.assert_array_equal(good.mask, model.segment(frame)[0])
    assert outcome(answers[3]).error.code == 3
    assert outcome(answers[5]).error.code == 3 and "holds no image" in outcome(answers[5]).error.message


def test_the_archive_is_the_same_for_the_same_file_and_holds_its_bytes(model_path, tmp_path):
    archives = [package(model_path, tmp_path / f"{number}.mar", name="tiny", version="3") for number in range(2)]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as opened:
        assert opened.read("model.onnx") == model_path.read_bytes()
        assert json.loads(opened.read("MAR-INF/MANIFEST.json"))["model"]["handler"] in opened.namelist()
    assert read_manifest(archives[0])["modelVersion"] == "3"


def test_an_archive_of_the_store_is_named_by_its_place(model_path, tmp_path):
    place = tmp_path / "store" / "camera" / "7" / "model.onnx"
    place.parent.mkdir(parents=True)
    place.write_bytes(model_path.read_bytes())
    assert package(place) == tmp_path / "store" / "camera.mar"
    assert read_manifest(tmp_path / "store" / "camera.mar") | {"handler": ""} == {
        "modelName": "camera",
        "modelVersion": "7",
        "serializedFile": "model.onnx",
        "handler": "",
    }


def test_what_is_no_model_or_archive_is_told(tmp_path, model_path):
    (tmp_path / "x.onnx").write_bytes(b"half")
    with pytest.raises(InputError, match="not an ONNX file"):
        package(tmp_path / "x.onnx")
    for wrong in ({"name": "a b"}, {"name": "kamera-süd"}, {"version": "1/2"}, {"name": ".."}):
        with pytest.raises(InputError, match=f"--{next(iter(wrong))}: .* TorchServe takes letters"):
            package(model_path, tmp_path / "y.mar", **wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--out: .*y.mar cannot be written: "):
        package(model_path, tmp_path / "file" / "y.mar", name="tiny")
    with pytest.raises(InputError, match="not an archive that `onepixel package` wrote"):
        read_manifest(tmp_path / "x.onnx")
    for model in ({"modelName": "tiny"}, {"modelName": "a\nb", "modelVersion": "1"}, {"modelName": 7}, []):
        with zipfile.ZipFile(tmp_path / "z.mar", "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
        with pytest.raises(InputError, match=r"z\.mar: not an archive that `onepixel package` wrote: "):
            read_manifest(tmp_path / "z.mar")
