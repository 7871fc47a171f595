import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest

from serving.batching import Closed, Expired, InferenceQueue, QueueFull
from serving.frames import Pixels
from serving.model import Model

FRAME = np.zeros((24, 32, 3), np.uint8)


class GatedEngine:
    """A real model behind a gate, so that a test decides when an inference ends; counts the frames it was given."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.seen: list[int] = []

    def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        self.seen.append(int(frames[0, 0, 0, 0]))
        self.entered.release()
        assert self.gate.acquire(timeout=5)
        return self.model.infer(frames)


@pytest.fixture
def engine(model: Model) -> GatedEngine:
    return GatedEngine(model)


@pytest.fixture
def queue(engine: GatedEngine) -> Iterator[InferenceQueue]:
    queue = InferenceQueue(engine, capacity=2)
    yield queue
    engine.gate.release(100)
    queue.close()


def test_first_come_first_served_with_the_engines_masks(
    queue: InferenceQueue, engine: GatedEngine, model: Model
) -> None:
    frames = [np.full((24, 32, 3), (value, 100, 50), np.uint8) for value in (3, 200, 99)]
    futures = [queue.submit(frame) for frame in frames]
    engine.gate.release(3)
    for frame, future in zip(frames, futures, strict=True):
        answer = future.result(5)
        class_ids, confidence = model.infer(frame[None])
        assert np.array_equal(answer.class_ids, class_ids[0])
        assert np.array_equal(answer.confidence, confidence[0])
    assert engine.seen == [3, 200, 99]
    assert futures[2].result().queued_ns >= futures[1].result().inference_ns


def test_places_are_bounded(queue: InferenceQueue) -> None:
    with queue.reserve():
        with queue.reserve(), pytest.raises(QueueFull, match="all 2 places are taken"), queue.reserve():
            pass
        with pytest.raises(QueueFull), queue.reserve(2):
            pass
    with queue.reserve(2):
        pass


def test_cancelled_and_expired_work_costs_no_inference(queue: InferenceQueue, engine: GatedEngine) -> None:
    first = queue.submit(FRAME)
    assert engine.entered.acquire(timeout=5)
    cancelled = queue.submit(FRAME + 1)
    expired = queue.submit(FRAME + 2, deadline=time.monotonic())
    last = queue.submit(FRAME + 3, deadline=time.monotonic() + 60)
    assert cancelled.cancel() and not first.cancel()
    engine.gate.release(4)
    last.result(5)
    with pytest.raises(CancelledError):
        cancelled.result(0)
    with pytest.raises(Expired):
        expired.result(0)
    assert engine.seen == [0, 3]


def test_an_engine_that_fails_fails_only_its_frame(queue: InferenceQueue, engine: GatedEngine) -> None:
    engine.gate.release(2)
    with pytest.raises(Exception, match="takes uint8"):
        queue.submit(FRAME[:3]).result(5)
    queue.submit(FRAME).result(5)


def test_closing_answers_what_is_queued(queue: InferenceQueue, engine: GatedEngine) -> None:
    futures = [queue.submit(FRAME) for _ in range(3)]
    engine.gate.release(3)
    queue.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(Closed), queue.reserve():
        pass
    with pytest.raises(Closed):
        queue.submit(FRAME).result(0)
