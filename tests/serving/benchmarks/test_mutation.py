"""The fuzzer's messages: reproducible, often broken and often not."""

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from onepixel.oip import open_inference_pb2 as oip
from onepixel.v1 import segmentation_pb2 as pb

from serving.benchmarks.mutation import Corpus


def parses(data: bytes, message: Any = pb.SegmentRequest) -> bool:
    try:
        message.FromString(data)
    except DecodeError:
        return False
    return True


def test_a_seed_gives_the_same_messages() -> None:
    one, same, other = Corpus(1), Corpus(1), Corpus(2)
    messages = [one.request() for _ in range(20)]
    assert messages == [same.request() for _ in range(20)]
    assert messages != [other.request() for _ in range(20)]
    assert one.stream() == same.stream()


def test_some_messages_are_whole_and_some_are_not() -> None:
    corpus = Corpus(0)
    whole = sum(parses(corpus.request()) for _ in range(300))
    assert 150 < whole < 300
    whole = sum(parses(corpus.infer_request(), oip.ModelInferRequest) for _ in range(300))
    assert 150 < whole < 300


def test_streams_have_frames_and_mostly_a_config() -> None:
    corpus = Corpus(0)
    assert all(1 <= len(corpus.stream()) <= 6 for _ in range(50))


@pytest.mark.parametrize("data", [b"", b"\xff"])
def test_mutations_take_what_is_short(data: bytes) -> None:
    corpus = Corpus(3)
    for _ in range(200):
        assert isinstance(corpus._mutate(data), bytes)
