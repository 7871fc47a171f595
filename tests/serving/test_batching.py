import gc
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest

from serving.batching import InferenceQueue
from serving.errors import Closed, Expired, QueueFull
from serving.frames import Pixels
from serving.model import Model
from serving.settings import QueueSettings

FRAME = np.zeros((24, 32, 3), np.uint8)


class GatedEngine:
    """A real model behind a gate, so that a test decides when an inference ends; tells the frames it was given."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    @property
    def seen(self) -> list[int]:
        return [number for batch in self.batches for number in batch]

    def infer(self, frames: Pixels) -> tuple[Pixels, Pixels]:
        self.batches.append(frames[:, 0, 0, 0].tolist())
        self.entered.release()
        assert self.gate.acquire(timeout=5)
        return self.model.infer(frames)


@pytest.fixture
def engine(model: Model) -> GatedEngine:
    return GatedEngine(model)


@pytest.fixture
def queue(engine: GatedEngine) -> Iterator[InferenceQueue]:
    queue = InferenceQueue(capacity=2)
    yield queue
    engine.gate.release(100)
    queue.close()


@pytest.fixture
def batching(engine: GatedEngine) -> Iterator[InferenceQueue]:
    queue = InferenceQueue(capacity=64, settings=QueueSettings(max_batch=3, batch_delay=0.2))
    yield queue
    engine.gate.release(100)
    queue.close()


def measured(queue: InferenceQueue, seconds: float) -> InferenceQueue:
    """Let a queue believe that a frame takes so long."""
    queue._interval = seconds
    return queue


def test_first_come_first_served_with_the_engines_masks(
    queue: InferenceQueue, engine: GatedEngine, model: Model
) -> None:
    frames = [np.full((24, 32, 3), (value, 100, 50), np.uint8) for value in (3, 200, 99)]
    futures = [queue.submit(engine, frame) for frame in frames]
    engine.gate.release(3)
    for frame, future in zip(frames, futures, strict=True):
        answer = future.result(5)
        class_ids, confidence = model.infer(frame[None])
        assert np.array_equal(answer.class_ids, class_ids[0])
        assert np.array_equal(answer.confidence, confidence[0])
    assert engine.seen == [3, 200, 99]
    assert futures[2].result().queued_ns >= futures[1].result().inference_ns


def test_places_are_bounded(queue: InferenceQueue) -> None:
    with queue.enter():
        with queue.enter(), pytest.raises(QueueFull, match="all 2 places are taken; retry later"):
            queue.enter()
        queue.enter(refuse=False).leave()
    with queue.enter(), queue.enter():
        pass


def test_what_would_wait_too_long_is_refused_and_told_when_to_come_again(engine: GatedEngine) -> None:
    queue = measured(InferenceQueue(capacity=64, settings=QueueSettings(max_wait=1.0)), 0.4)
    assert queue.bound == 2
    places = [queue.enter("a") for _ in range(3)]  # the third waits 0.8 s
    with pytest.raises(QueueFull, match=r"it would wait 1\.2 s; at most 1 s may be waited") as caught:
        queue.enter("a")
    assert caught.value.retry_after == pytest.approx(0.2)
    places.pop().leave()
    with pytest.raises(QueueFull, match=r"would wait 0\.8 s; the deadline is sooner"):
        queue.enter("a", deadline=time.monotonic() + 1.1)
    queue.enter("a", deadline=time.monotonic() + 1.3)


def test_more_frames_at_once_than_may_wait_are_refused_without_a_hint() -> None:
    queue = measured(InferenceQueue(capacity=64, settings=QueueSettings(max_wait=1.0)), 0.25)
    queue.enter("a", frames=5).leave()
    with pytest.raises(
        QueueFull, match=r"6 frames at once take 1\.5 s; at most 1 s may be waited: send fewer"
    ) as caught:
        queue.enter("a", frames=6)
    assert caught.value.retry_after is None


def test_an_empty_queue_takes_every_frame(engine: GatedEngine) -> None:
    queue = measured(InferenceQueue(capacity=64, settings=QueueSettings(max_wait=0.1)), 50.0)
    with queue.enter("a", deadline=time.monotonic() + 0.1), pytest.raises(QueueFull):
        queue.enter("b")


def test_who_has_many_frames_here_leaves_room_for_others(engine: GatedEngine) -> None:
    queue = measured(InferenceQueue(capacity=64, settings=QueueSettings(max_wait=1.0)), 0.1)
    for _ in range(11):
        queue.enter("greedy")
    with pytest.raises(QueueFull):
        queue.enter("greedy")
    queue.enter("modest")  # its turn comes after one of the greedy client's, not after eleven
    for _ in range(4):
        queue.enter("modest")
    with pytest.raises(QueueFull):
        queue.enter("modest")


def test_clients_take_turns(queue: InferenceQueue, engine: GatedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_cost", lambda work: 0.1)
    queue.submit(engine, FRAME, client="greedy")
    assert engine.entered.acquire(timeout=5)
    futures = [queue.submit(engine, FRAME + number, client="greedy") for number in (1, 2, 3)]
    futures += [queue.submit(engine, FRAME + number, client="modest") for number in (11, 12)]
    engine.gate.release(6)
    for future in futures:
        future.result(5)
    assert engine.seen == [0, 11, 1, 12, 2, 3]


def test_large_frames_wait_for_themselves(
    queue: InferenceQueue, engine: GatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_cost", lambda work: 0.1 + work.cost)
    queue.submit(engine, FRAME)
    assert engine.entered.acquire(timeout=5)
    futures = [queue.submit(engine, FRAME + number, client="large", cost=0.1) for number in (1, 2)]
    futures += [queue.submit(engine, FRAME + number, client="small") for number in (11, 12, 13)]
    engine.gate.release(6)
    for future in futures:
        future.result(5)
    assert engine.seen == [0, 1, 11, 12, 2, 13]


def test_batches_are_filled_from_all_clients(batching: InferenceQueue, engine: GatedEngine, model: Model) -> None:
    first = batching.submit(engine, FRAME)  # waits for others, in vain
    assert engine.entered.acquire(timeout=5)
    frames = [np.full((24, 32, 3), (value, 100, 50), np.uint8) for value in (3, 200, 99, 5)]
    futures = [batching.submit(engine, frame, client=str(number % 2)) for number, frame in enumerate(frames)]
    engine.gate.release(3)
    assert first.result(5).batch == 1
    for frame, future in zip(frames, futures, strict=True):
        class_ids, confidence = model.infer(frame[None])
        assert np.array_equal(future.result(5).class_ids, class_ids[0])
        assert np.array_equal(future.result(5).confidence, confidence[0])
    assert sorted(map(len, engine.batches)) == [1, 1, 3]
    assert [future.result().batch for future in futures].count(3) == 3


def test_a_batch_is_of_one_engine(batching: InferenceQueue, engine: GatedEngine, model: Model) -> None:
    other = GatedEngine(model)
    other.gate.release(1)
    batching.submit(engine, FRAME)
    assert engine.entered.acquire(timeout=5)
    futures = [batching.submit(kind, FRAME + number) for number, kind in ((1, engine), (2, other), (3, engine))]
    engine.gate.release(3)
    for future in futures:
        future.result(5)
    assert (engine.batches, other.batches) == ([[0], [1], [3]], [[2]])


def test_a_bad_frame_fails_alone_in_its_batch(batching: InferenceQueue, engine: GatedEngine) -> None:
    engine.gate.release(100)
    futures = [batching.submit(engine, frame) for frame in (FRAME, FRAME[:3], FRAME)]
    assert futures[0].result(5) and futures[2].result(5)
    assert isinstance(futures[1].exception(5), Exception)


def test_what_cannot_be_answered_in_time_costs_no_inference(queue: InferenceQueue, engine: GatedEngine) -> None:
    queue._costs[engine] = 3.0
    with pytest.raises(Expired):
        queue.submit(engine, FRAME, deadline=time.monotonic() + 2.5).result(5)
    assert engine.seen == []
    engine.gate.release(1)
    for _ in range(3):  # nothing was in time, so perhaps the expectation is wrong
        with pytest.raises(Expired):
            queue.submit(engine, FRAME, deadline=time.monotonic() + 1).result(5)
    queue.submit(engine, FRAME, deadline=time.monotonic() + 2.5).result(5)


def test_cancelled_and_expired_work_costs_no_inference(queue: InferenceQueue, engine: GatedEngine) -> None:
    first = queue.submit(engine, FRAME)
    assert engine.entered.acquire(timeout=5)
    cancelled = queue.submit(engine, FRAME + 1)
    expired = queue.submit(engine, FRAME + 2, deadline=time.monotonic())
    last = queue.submit(engine, FRAME + 3, deadline=time.monotonic() + 60)
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
        queue.submit(engine, FRAME[:3]).result(5)
    queue.submit(engine, FRAME).result(5)


def test_closing_answers_what_is_queued(queue: InferenceQueue, engine: GatedEngine) -> None:
    futures = [queue.submit(engine, FRAME) for _ in range(3)]
    engine.gate.release(3)
    queue.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(Closed):
        queue.enter()
    with pytest.raises(Closed):
        queue.submit(engine, FRAME).result(0)


def test_what_has_waited_too_long_is_dropped_at_its_turn(engine: GatedEngine) -> None:
    queue = InferenceQueue(capacity=64, settings=QueueSettings(max_wait=0.1))
    first = queue.submit(engine, FRAME)
    assert engine.entered.acquire(timeout=5)
    late, patient = queue.submit(engine, FRAME + 1), queue.submit(engine, FRAME + 2, patient=True)
    time.sleep(0.15)
    engine.gate.release(2)
    with pytest.raises(QueueFull, match=r"it waited 0\.\d+ s; at most 0\.1 s may be waited"):
        late.result(5)
    assert first.result(5) and patient.result(5)
    assert engine.seen == [0, 2]
    queue.close()


def test_a_cancelled_frame_leaves_at_once_and_costs_its_client_nothing(
    queue: InferenceQueue, engine: GatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_cost", lambda work: 0.1)
    queue.submit(engine, FRAME, client="a")
    assert engine.entered.acquire(timeout=5)
    for _ in range(20):
        assert queue.submit(engine, FRAME + 9, client="b").cancel()
    assert queue.depth == 0
    futures = [queue.submit(engine, FRAME + number, client=client) for number, client in ((1, "a"), (2, "b"))]
    engine.gate.release(3)
    for future in futures:
        future.result(5)
    assert engine.seen == [0, 2, 1]


def test_an_expectation_is_not_doubted_for_frames_that_had_expired(queue: InferenceQueue, engine: GatedEngine) -> None:
    queue._costs[engine] = 0.1
    for _ in range(5):
        assert isinstance(queue.submit(engine, FRAME, deadline=time.monotonic() - 1).exception(5), Expired)
    assert queue._costs[engine] == 0.1


def test_a_batch_that_is_waited_for_heeds_deadlines_and_cancelling(engine: GatedEngine) -> None:
    queue = InferenceQueue(capacity=64, settings=QueueSettings(max_batch=4, batch_delay=30))
    engine.gate.release(2)
    assert queue.submit(engine, FRAME).cancel() and queue.depth == 0
    assert queue.submit(engine, FRAME + 1, deadline=time.monotonic() + 0.2).exception(5) is not None
    assert engine.seen == []
    futures = [queue.submit(engine, FRAME + number) for number in range(4)]
    assert [future.result(5).batch for future in futures] == [4] * 4
    queue.close()


def test_a_frame_that_is_asked_for_at_once_needs_no_thread(queue: InferenceQueue, engine: GatedEngine) -> None:
    engine.gate.release(1)
    assert queue.submit(engine, FRAME, at_once=True).done()


def test_an_engine_that_hangs_does_not_hold_the_end(queue: InferenceQueue, engine: GatedEngine) -> None:
    queue.submit(engine, FRAME)
    assert engine.entered.acquire(timeout=5)
    assert not queue.close(0.05)
    engine.gate.release(1)
    assert queue.close(5)


def test_an_engine_that_is_asked_no_more_is_let_go(queue: InferenceQueue, model: Model) -> None:
    engine = GatedEngine(model)
    engine.gate.release(9)
    queue.submit(engine, FRAME).result(5)
    queue.submit(engine, FRAME, deadline=time.monotonic() - 1).exception(5)
    queue.submit(engine, FRAME).result(5)
    gone = weakref.ref(engine)
    gc.disable()  # nothing waits for it
    try:
        del engine
        deadline = time.monotonic() + 5
        while gone() is not None:
            assert time.monotonic() < deadline
    finally:
        gc.enable()
