"""The generator's own process: threads that send the loads, and note when each frame's outcome arrives.

Requests are sent as bytes and, unless the load says `check`, replies to single calls are not read, so that sending
costs little and the figures are the server's.
"""

import heapq
import http.client
import os
import threading
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

import grpc
import numpy as np
from onepixel.v1 import segmentation_pb2 as pb

from serving.benchmarks.load import (
    LOST,
    MASK,
    STRAY,
    Answer,
    Load,
    Run,
    StreamLoad,
    UnaryLoad,
    arrival_times,
    image_index,
    quantile,
)
from serving.benchmarks.workload import STREAM_SEGMENT

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # else the clients share one connection
)
PATIENCE = 60.0
"""Seconds that a stream may take for what is under way when its last frame has been sent."""
MOST_LATE = 0.5
"""Seconds behind the load's end up to which a frame of an open loop is still sent that was due before it."""
NAP = 0.002
"""How often the calls that should be cancelled are looked at, seconds."""

_stop: Event


def start(core: int, stop: Event) -> None:
    """Begin the process: on a core, with what tells it to stop."""
    global _stop
    os.sched_setaffinity(0, {core})
    _stop = stop


def send(loads: tuple[Load, ...]) -> list[Run]:
    """Send loads at the same time."""
    senders = [_sender(load) for load in loads]
    _together([sender.run for sender in senders])
    return [sender.result() for sender in senders]


def _sender(load: Load) -> "_Sender":
    if isinstance(load, StreamLoad):
        return _StreamSender(load)
    assert isinstance(load, UnaryLoad)
    return _ClosedSender(load) if load.rate is None else _OpenSender(load)


def _together(functions: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class _Sender(ABC):
    """What all senders share: a thread for each client, and the record of what they sent and saw."""

    def __init__(self, load: Any) -> None:
        self.load = load
        self._answers: list[Answer] = []
        self._late: list[float] = []
        self._sent = 0
        self._lock = threading.Lock()
        self._failures: list[BaseException] = []
        self._began = self._ended = 0.0

    def run(self) -> None:
        self._began = time.monotonic()
        _together([partial(self._guarded, client) for client in range(self.load.clients)])
        self._ended = time.monotonic()

    def result(self) -> Run:
        if self._failures:
            raise self._failures[0]
        late = quantile(np.array(self._late), 0.99) if self._late else 0.0
        return Run(self._sent, tuple(self._answers), self._began, self._ended, late)

    def _guarded(self, client: int) -> None:
        try:
            self._send(client)
        except BaseException as error:  # told by `result`, in the process that asked
            self._failures.append(error)

    @abstractmethod
    def _send(self, client: int) -> None:
        """Send one client's frames."""

    def _takes_another(self) -> bool:
        """Count a frame that is about to be sent, unless the load is at its end."""
        patience = 0.0 if self.load.rate is None else MOST_LATE
        if _stop.is_set() or time.monotonic() >= self._began + self.load.seconds + patience:
            return False
        with self._lock:
            if self.load.frames is not None and self._sent >= self.load.frames:
                return False
            self._sent += 1
        return True

    def _due_times(self, client: int) -> Iterator[float]:
        """Wait for each frame of an open loop, and yield when it was due."""
        for offset in arrival_times(self.load, client):
            due = self._began + offset
            while (pause := due - time.monotonic()) > 0 and not _stop.is_set():
                time.sleep(min(pause, 0.5))
            if not self._takes_another():
                return
            self._late.append(time.monotonic() - due)
            yield due

    def _note(self, client: int, sequence: int, due: float, outcome: str = MASK, **seen: Any) -> None:
        self._answers.append(Answer(client, sequence, due, time.monotonic(), outcome, **seen))


class _ClosedSender(_Sender):
    """Single calls, each client's one after the other."""

    def _send(self, client: int) -> None:
        load: UnaryLoad = self.load
        connection, call = connect(load)
        sequence = 0
        with closing(connection):
            while self._takes_another():
                request = load.requests[image_index(client, sequence, len(load.requests))]
                due = time.monotonic()
                outcome, detail, reply = call(request, load.timeouts[sequence % len(load.timeouts)])
                if outcome == MASK:
                    self._note(client, sequence, due, **_read(reply, load.check))
                else:
                    self._note(client, sequence, due, outcome, detail=detail)
                    if load.until_refused:
                        return
                sequence += 1


class _OpenSender(_Sender):
    """Single calls when they are due."""

    def __init__(self, load: UnaryLoad) -> None:
        super().__init__(load)
        self._to_cancel: list[tuple[float, int, int, grpc.Future]] = []

    def run(self) -> None:
        ended = threading.Event()
        canceller = threading.Thread(target=self._cancel_when_due, args=(ended,))
        if any(self.load.cancel_after):
            canceller.start()
        super().run()
        ended.set()
        if canceller.ident is not None:
            canceller.join()

    def _send(self, client: int) -> None:
        load: UnaryLoad = self.load
        under_way = threading.Semaphore(0)
        sequence = 0
        with grpc.insecure_channel(load.address, options=OPTIONS) as channel:
            call = channel.unary_unary(load.method)
            for due in self._due_times(client):
                request = load.requests[image_index(client, sequence, len(load.requests))]
                future = call.future(request, timeout=load.timeouts[sequence % len(load.timeouts)])
                cancel_after = load.cancel_after[sequence % len(load.cancel_after)]
                if cancel_after is not None:
                    with self._lock:
                        heapq.heappush(self._to_cancel, (due + cancel_after, client, sequence, future))

                def done(future: grpc.Future, sequence: int = sequence, due: float = due) -> None:
                    if future.cancelled() or future.code() is not grpc.StatusCode.OK:
                        self._note(client, sequence, due, future.code().name, detail=future.details() or "")
                    else:
                        self._note(client, sequence, due, **_read(future.result(), load.check))
                    under_way.release()

                future.add_done_callback(done)
                sequence += 1
            for _ in range(sequence):
                under_way.acquire()

    def _cancel_when_due(self, ended: threading.Event) -> None:
        while not ended.wait(NAP):
            with self._lock:
                due = []
                while self._to_cancel and self._to_cancel[0][0] <= time.monotonic():
                    due.append(heapq.heappop(self._to_cancel)[-1])
            for future in due:
                future.cancel()


class _StreamSender(_Sender):
    """A stream for each client."""

    def __init__(self, load: StreamLoad) -> None:
        super().__init__(load)
        self._sent_on_streams = 0

    def result(self) -> Run:
        return replace(super().result(), sent=self._sent_on_streams)

    def _send(self, client: int) -> None:
        load: StreamLoad = self.load
        due_times: dict[int, float] = {}
        window = threading.Semaphore(load.max_in_flight)
        status, detail = LOST, ""
        with grpc.insecure_channel(load.address, options=OPTIONS) as channel:
            timeout = min(load.seconds, 1e6) + PATIENCE
            call = channel.stream_stream(STREAM_SEGMENT)(self._requests(client, due_times, window), timeout=timeout)
            try:
                for reply in call:
                    response = pb.StreamSegmentResponse.FromString(reply)
                    if response.sequence in due_times:
                        self._note_response(client, due_times[response.sequence], response)
                    else:
                        self._note(client, response.sequence, 0.0, STRAY)
                    window.release()
            except grpc.RpcError as error:
                status, detail = f"STREAM {error.code().name}", error.details() or ""
        sent = dict(due_times)  # what comes to it now is too late for the call
        ended = {answer.sequence for answer in self._answers if answer.client == client}
        for sequence, due in sent.items():
            if sequence not in ended:
                self._note(client, sequence, due, status, detail=detail)
        with self._lock:
            self._sent_on_streams += len(sent)

    def _requests(self, client: int, due_times: dict[int, float], window: threading.Semaphore) -> Iterator[bytes]:
        load: StreamLoad = self.load
        policy = f"OVERFLOW_POLICY_{load.overflow_policy}"
        config = pb.StreamConfig(overflow_policy=policy, max_in_flight=load.max_in_flight)
        yield pb.StreamSegmentRequest(config=config).SerializeToString()
        messages = [pb.StreamSegmentRequest() for _ in load.images]
        for message, image in zip(messages, load.images, strict=True):
            message.frame.encoded.data = image
        times = self._free_times(window) if load.rate is None else self._due_times(client)
        for sequence, due in enumerate(times):
            due_times[sequence] = due
            message = messages[image_index(client, sequence, len(messages))]
            message.frame.sequence = sequence
            yield message.SerializeToString()

    def _free_times(self, window: threading.Semaphore) -> Iterator[float]:
        """Wait until a closed loop may send its next frame, and yield when that was."""
        while True:
            while not window.acquire(timeout=0.1):
                if _stop.is_set():
                    return
            if not self._takes_another():
                return
            yield time.monotonic()

    def _note_response(self, client: int, due: float, response: pb.StreamSegmentResponse) -> None:
        kind = response.WhichOneof("outcome")
        if kind == "segmentation":
            seen = _seen(response.segmentation) if self.load.check else {}
            self._note(client, response.sequence, due, **seen)
        elif kind == "dropped":
            reason = pb.DropReason.Name(response.dropped.reason).removeprefix("DROP_REASON_")
            self._note(client, response.sequence, due, f"DROPPED {reason}")
        else:
            code = next(code.name for code in grpc.StatusCode if code.value[0] == response.error.code)
            self._note(client, response.sequence, due, code, detail=response.error.message)


Call = Callable[[bytes, float], tuple[str, str, bytes]]
"""Sends a request with a timeout, and returns the outcome, what the server said with it, and the reply."""


def connect(load: UnaryLoad) -> tuple[Any, Call]:
    """Return a client's connection, to be closed, and what calls over it."""
    if load.http:
        connection = http.client.HTTPConnection(load.address, timeout=max(load.timeouts))

        def post(request: bytes, timeout: float) -> tuple[str, str, bytes]:
            try:
                connection.request("POST", load.method, request, {"Content-Type": load.content_type})
                answer = connection.getresponse()
                reply = answer.read()
            except OSError as error:
                return "UNAVAILABLE", str(error), b""
            return (MASK, "", reply) if answer.status == 200 else (f"HTTP {answer.status}", answer.reason, reply)

        return connection, post
    channel = grpc.insecure_channel(load.address, options=OPTIONS)
    method = channel.unary_unary(load.method)

    def call(request: bytes, timeout: float) -> tuple[str, str, bytes]:
        try:
            return MASK, "", method(request, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name, error.details() or "", b""

    return channel, call


def _read(reply: bytes, check: bool) -> dict[str, Any]:
    return _seen(pb.SegmentResponse.FromString(reply).segmentation) if check else {}


def _seen(segmentation: pb.Segmentation) -> dict[str, Any]:
    return {"version": segmentation.model_version, "checksum": zlib.crc32(segmentation.mask.data)}
