"""The one-outcome rule: frames in = masks + drops + errors, in order, whatever the policy.

The engine is a real model behind a gate; what is sent while the gate is shut decides exactly who is dropped.
"""

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onepixel.v1 import segmentation_pb2 as pb

from serving import wire
from serving.batching import InferenceQueue
from serving.frames import Pixels, encode_png
from serving.model import Model
from serving.repository import Repository
from serving.services import stream as stream_module
from serving.services.answers import Answerer
from serving.services.statuses import Caller
from serving.services.stream import DEPTH, Stream
from serving.wire import OverflowPolicy, SegmentOptions

PNG = encode_png(np.full((24, 32, 3), (9, 8, 7), np.uint8))


class Gate(Model):
    """A real model that holds every inference until opened."""

    @classmethod
    def before(cls, model: Model) -> "Gate":
        gate = cls(**{field.name: getattr(model, field.name) for field in dataclasses.fields(model)})
        vars(gate).update(opened=threading.Event(), runs=0)
        return gate

    def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        vars(self)["runs"] += 1
        assert self.opened.wait(5)
        return super().infer(frames)


class Nobody:
    """A caller without a call."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def is_active(self) -> bool:
        return True


class Harness:
    def __init__(self, model: Model) -> None:
        self.gate = Gate.before(model)
        self.queue = InferenceQueue(capacity=8)
        self.answerer = Answerer(Repository.of(self.gate), self.queue, max_pixels=10_000)
        self.pool = ThreadPoolExecutor(1)

    def make(self, options: SegmentOptions, policy: OverflowPolicy, held: int) -> Stream:
        caller = Caller(Nobody(), "camera")
        find = self.answerer.repository.find
        return Stream(self.answerer, find, caller, options, max_in_flight=held, overflow_policy=policy)

    def counted(self) -> Counter[str]:
        """Return the frames by outcome, and those that arrived, as the metrics tell them."""
        samples = [
            sample
            for family in self.answerer.metrics.registry.collect()
            for sample in family.samples
            if family.name in ("onepixel_frames", "onepixel_frames_received", "onepixel_inferences")
        ]
        totals: Counter[str] = Counter()
        for sample in samples:
            if sample.name.endswith("_total"):
                totals[sample.labels.get("outcome", sample.name)] += int(sample.value)
        return totals

    def open(self, policy: OverflowPolicy, held: int, **options: float) -> Stream:
        self.stream = self.make(SegmentOptions(**options), policy, held)
        self.answers = self.pool.submit(lambda: [summary(answer) for answer in self.stream.responses()])
        return self.stream

    def send(self, *images: bytes) -> None:
        """Send frames one after the other, each when the one before has gone as far as it can."""
        for image in images:
            self.sent = getattr(self, "sent", -1) + 1
            assert self.stream.accept(wire.frame_message(image, sequence=self.sent))
            self.settle()

    def settle(self) -> None:
        """Wait until the handler has nothing to do but wait for the engine."""
        stream, deadline = self.stream, time.monotonic() + 5
        while time.monotonic() < deadline:
            with stream._changed:
                started = not stream._waiting or stream._taken == DEPTH
                in_turn = sum(entry.taken for entry in stream._entries) == stream._taken
                decoded = all(entry.frame is None for entry in stream._entries if entry.taken)
                if started and in_turn and decoded and not (stream._entries and stream._entries[0].ready()):
                    return
            time.sleep(0.001)
        raise TimeoutError

    def finish(self) -> list[tuple[int, str]]:
        self.gate.opened.set()
        self.stream.end_input()
        return self.answers.result(5)


def summary(serialised: bytes) -> tuple[int, str]:
    answer = pb.StreamSegmentResponse.FromString(serialised)
    kind = answer.WhichOneof("outcome")
    if kind == "dropped":
        return answer.sequence, pb.DropReason.Name(answer.dropped.reason).removeprefix("DROP_REASON_")
    return answer.sequence, "mask" if kind == "segmentation" else f"error {answer.error.code}"


@pytest.fixture
def harness(model: Model) -> Iterator[Harness]:
    harness = Harness(model)
    yield harness
    harness.gate.opened.set()
    harness.queue.close()
    harness.pool.shutdown()


def test_drop_oldest_keeps_the_newest(harness: Harness) -> None:
    harness.open(OverflowPolicy.DROP_OLDEST, 4)
    harness.send(*[PNG] * 7)  # 0 and 1 are past dropping, 2 and 3 wait; each later one takes the oldest's place
    assert harness.finish() == [
        (0, "mask"), (1, "mask"), (2, "OVERFLOW"), (3, "OVERFLOW"), (4, "OVERFLOW"), (5, "mask"), (6, "mask"),
    ]  # fmt: skip
    assert harness.gate.runs == 4


def test_drop_oldest_drops_the_new_frame_where_none_waits(harness: Harness) -> None:
    harness.open(OverflowPolicy.DROP_OLDEST, 1)
    harness.send(*[PNG] * 3)
    assert harness.finish() == [(0, "mask"), (1, "OVERFLOW"), (2, "OVERFLOW")]


def test_drop_newest_keeps_the_oldest(harness: Harness) -> None:
    harness.open(OverflowPolicy.DROP_NEWEST, 4)
    harness.send(*[PNG] * 7)
    assert harness.finish() == [(n, "mask") for n in range(4)] + [(n, "OVERFLOW") for n in range(4, 7)]


def test_block_reads_no_further(harness: Harness) -> None:
    stream = harness.open(OverflowPolicy.BLOCK, 3)
    harness.send(*[PNG] * 3)
    with ThreadPoolExecutor(1) as reader:
        fourth = reader.submit(stream.accept, wire.frame_message(PNG, sequence=3))
        time.sleep(0.05)
        assert not fourth.done()
        harness.gate.opened.set()
        assert fourth.result(5)
    assert harness.finish() == [(n, "mask") for n in range(4)]


def test_old_frames_are_dropped_before_inference(harness: Harness) -> None:
    harness.open(OverflowPolicy.BLOCK, 8, max_age=0.5)
    harness.send(*[PNG] * 4)
    time.sleep(0.55)
    assert harness.finish() == [(0, "mask"), (1, "EXPIRED"), (2, "EXPIRED"), (3, "EXPIRED")]
    assert harness.gate.runs == 1


def test_bad_frames_have_their_outcome_in_their_place(harness: Harness) -> None:
    harness.open(OverflowPolicy.DROP_NEWEST, 5)
    harness.send(b"text", PNG, b"", PNG, PNG, b"late", PNG)
    answers = harness.finish()
    assert answers[0] == (0, "error 3")  # an error that can be told at once holds no place
    assert [number for number, _ in answers] == list(range(7))
    assert [kind for _, kind in answers] == ["error 3", "mask", "error 3", "mask", "mask", "error 3", "OVERFLOW"]


def test_a_frame_without_an_image_is_an_error(harness: Harness) -> None:
    stream = harness.open(OverflowPolicy.BLOCK, 2)
    stream.accept(pb.Frame(sequence=5))
    assert harness.finish() == [(5, "error 3")]


def test_the_headers_come_back(harness: Harness) -> None:
    stream = harness.make(SegmentOptions(), OverflowPolicy.BLOCK, 1)
    frame = wire.frame_message(b"", camera_id="left", sequence=2**63)
    frame.capture_time.FromMilliseconds(1_700_000_000_123)
    stream.accept(frame)
    stream.end_input()
    (serialised,) = stream.responses()
    answer = pb.StreamSegmentResponse.FromString(serialised)
    assert (answer.camera_id, answer.sequence) == ("left", 2**63)
    assert answer.capture_time.ToMilliseconds() == 1_700_000_000_123


def test_a_client_that_does_not_read_is_not_read_from(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_UNSENT", 6)
    stream = harness.make(SegmentOptions(), OverflowPolicy.DROP_NEWEST, 2)
    for number in range(6):
        assert stream.accept(wire.frame_message(PNG, sequence=number))
    with ThreadPoolExecutor(1) as reader:
        seventh = reader.submit(stream.accept, wire.frame_message(PNG, sequence=6))
        time.sleep(0.05)
        assert not seventh.done()
        stream.cancel()
        assert seventh.result(5) is False


def test_cancelling_drops_what_waits(harness: Harness) -> None:
    stream = harness.open(OverflowPolicy.BLOCK, 5)
    harness.send(*[PNG] * 5)
    stream.cancel()
    assert harness.answers.result(5) == []
    harness.gate.opened.set()
    harness.queue.close()
    assert harness.gate.runs == 1
    assert not stream.accept(wire.frame_message(PNG))
    assert harness.counted() == {
        "onepixel_frames_received_total": 5, "onepixel_inferences_total": 1, "cancelled": 5,
    }  # fmt: skip
    assert harness.queue._held.total() == 0


def test_an_error_of_the_input_comes_after_the_outcomes(harness: Harness) -> None:
    harness.gate.opened.set()
    stream = harness.make(SegmentOptions(), OverflowPolicy.BLOCK, 4)
    assert stream.accept(wire.frame_message(PNG)) and stream.accept(wire.frame_message(PNG, sequence=1))
    stream.end_input(ValueError("no more"))
    assert not stream.accept(wire.frame_message(PNG))
    answers = []
    with pytest.raises(ValueError, match="no more"):
        for answer in stream.responses():
            answers.append(summary(answer))
    assert answers == [(0, "mask"), (1, "mask")]


@pytest.mark.parametrize("policy", list(OverflowPolicy))
def test_every_frame_has_one_outcome_under_load(harness: Harness, policy: OverflowPolicy) -> None:
    harness.gate.opened.set()
    stream = harness.open(policy, 3)
    for number in range(300):
        image = b"bad" if number % 7 == 0 else PNG
        assert stream.accept(wire.frame_message(image, sequence=number))
    answers = harness.finish()
    assert [number for number, _ in answers] == list(range(300))
    kinds = [kind for _, kind in answers]
    masks, dropped, bad = (kinds.count(kind) for kind in ("mask", "OVERFLOW", "error 3"))
    assert masks + dropped + bad == 300
    counted = harness.counted()
    assert (counted["mask"], counted["overflow"], counted["invalid"]) == (masks, dropped, bad)
    assert (counted["onepixel_frames_received_total"], counted["onepixel_inferences_total"]) == (300, masks)
    if policy is OverflowPolicy.BLOCK:
        assert kinds.count("error 3") == 43 and kinds.count("mask") == 257
