"""From a source to the latest frame with its mask: what a camera's client does, kept up by itself.

One thread reads the source at its pace into a place for one frame; the other streams what lies there to the server,
which drops the oldest, and reconnects when the server went away. So nothing piles up: not behind a slow server, not
behind a slow browser, which finds the latest pair whenever it asks. While nobody asks nothing is sent.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import grpc

from serving.client import Client, Image, Outcome, ServerError
from serving.errors import InputError
from serving.frames import decode_image, encode_jpeg, encode_png
from serving.masks import MaskEncoding
from serving.view.figures import LOST, NOT_SENT, Figures
from serving.view.sources import Captured, Source
from serving.wire import ModelInfo, OverflowPolicy, Segmentation, SegmentOptions

RETRY = 1.0
"""Seconds between attempts, at the server and at a source that gives nothing."""
PATIENCE = 2.0
"""Seconds that one attempt waits for the server."""
STALL = 5.0
"""Seconds without an outcome after which the page says so."""
MAX_IN_FLIGHT = 3
"""Frames that the server holds: one in the engine, one decoded, the freshest. With the server's default of 16 as many
masks come per second, each about four times as late."""
MAX_AWAITING = 32
"""Frames without an outcome, kept here to be shown beside it; past those none is sent."""

WATCHED = 10.0
"""Seconds after the last question for which frames are sent on."""

_OPTIONS = SegmentOptions(mask_encoding=MaskEncoding.RLE, want_histogram=True)

logger = logging.getLogger(__name__)


class Pair:
    """A frame and its own mask, encoded for browsers when the first one asks.

    Attributes
    ----------
    number
        Its place among the pairs, from 1.
    """

    def __init__(self, number: int, captured: Captured, segmentation: Segmentation, model: ModelInfo) -> None:
        self.number = number
        self._captured, self._segmentation, self._model = captured, segmentation, model
        self._lock = threading.Lock()
        self._pictures: tuple[bytes, bytes] | None = None

    def pictures(self) -> tuple[bytes, bytes]:
        """Return the frame as a JPEG and the class ids as an 8-bit greyscale PNG of the same size."""
        with self._lock:  # several browsers ask at once
            if self._pictures is None:
                image = self._captured.image
                if isinstance(image, bytes):
                    # Encoded anew, since browsers turn a file by its EXIF rotation and the mask is not turned.
                    image = decode_image(image, max_pixels=self._segmentation.mask.size)
                self._pictures = encode_jpeg(image), encode_png(self._segmentation.mask)
            return self._pictures

    def to_json(self) -> dict[str, Any]:
        """Return what the page says of it: its name, its size, its model, and each class's share of its pixels."""
        height, width = self._segmentation.mask.shape
        histogram = self._segmentation.histogram or ()
        return {
            "number": self.number,
            "name": self._captured.name,
            "width": width,
            "height": height,
            "shares": {str(class_id): round(count / (height * width), 4) for class_id, count in enumerate(histogram)},
            "model": {
                "name": self._model.name,
                "version": self._model.version,
                "digest": self._model.digest,
                "classes": [
                    {"id": each.id, "name": each.name, "colour": list(each.colour)} for each in self._model.classes
                ],
            },
        }


class Feed:
    """A source's frames through a server.

    Parameters
    ----------
    source
        What gives frames; from the beginning again when it ends.
    address
        HOST:PORT of the server.
    rate
        Frames per second at most, in place of the source's own.
    connect
        What makes a client of the server; None means one without credentials, of the server's default model.
    """

    def __init__(
        self,
        source: Source,
        address: str,
        *,
        rate: float | None = None,
        connect: Callable[[], Client] | None = None,
    ) -> None:
        self.figures = Figures()
        self._source, self._address = source, address
        self._connect = connect or partial(Client, address)
        self._period = 1 / (rate or source.rate or float("inf"))
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._next: Captured | None = None
        self._pair: Pair | None = None
        self._pairs = 0
        self._awaiting: dict[int, tuple[Captured, float]] = {}
        self._heard = self._asked = time.monotonic()
        self._source_problem: str | None = None
        self._server_problem: str | None = None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._segment)]

    def start(self) -> None:
        """Begin; returns at once."""
        self._asked = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; waits a moment for the server's last answers and for the source."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(PATIENCE + RETRY)

    def newer(self, number: int, timeout: float) -> Pair | None:
        """Return the latest pair once it is another than the one of that number; None after `timeout` seconds."""
        self._look()
        with self._changed:
            self._changed.wait_for(lambda: self._pair is not None and self._pair.number != number, timeout)
            return self._pair if self._pair is not None and self._pair.number != number else None

    def to_json(self) -> dict[str, Any]:
        """Return what the page says beside the pictures; `problem` is None while all is well."""
        self._look()
        return {
            "source": self._source.name,
            "server": self._address,
            "problem": self._server_problem or self._source_problem or self._stall(),
            "figures": self.figures.to_json(),
        }

    def _look(self) -> None:
        """Somebody asks; who asks after a pause is not shown what came before it."""
        with self._changed:
            if not self._is_watched():
                self._pair = None
            self._asked = time.monotonic()

    def _is_watched(self) -> bool:
        return time.monotonic() <= self._asked + WATCHED

    def _stall(self) -> str | None:
        with self._changed:
            oldest = next((sent for _, sent in self._awaiting.values()), None)
        if oldest is None or (silent := time.monotonic() - max(oldest, self._heard)) < STALL:
            return None
        return f"The server at {self._address} has not answered for {silent:.0f} s"

    def _read(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                with closing(self._source.frames()) as frames:
                    for captured in frames:
                        now = time.monotonic()
                        if self._source.rate is None and now < due and not self._stop.is_set():
                            continue  # read all the same, or a camera falls behind
                        self._stop.wait(due - now)
                        if self._stop.is_set():
                            return
                        due = max(due + self._period, now)
                        self._source_problem = None
                        self._offer(captured)
            except Exception as error:
                self._source_problem = _told(error)
                self._stop.wait(RETRY)

    def _offer(self, captured: Captured) -> None:
        if not self._is_watched():
            return
        self.figures.arrived()
        with self._changed:
            if self._next is not None:
                self.figures.dropped(NOT_SENT)
            self._next = captured
            self._changed.notify_all()

    def _segment(self) -> None:
        while not self._stop.is_set():
            try:
                with self._connect() as client:
                    client.wait_ready(PATIENCE)
                    self._stream(client)
            except Exception as error:
                absent = isinstance(error, ServerError) and error.code is grpc.StatusCode.UNAVAILABLE
                what = f"No server answers at {self._address}" if absent else _told(error)
                self._server_problem = f"{what}; trying again every second"
                self._stop.wait(RETRY)

    def _stream(self, client: Client) -> None:
        awaiting: dict[int, tuple[Captured, float]] = {}
        self._awaiting = awaiting
        ended = False

        def images() -> Iterator[Image]:
            sequence = 0
            while True:
                with self._changed:
                    self._changed.wait_for(
                        lambda: ended or self._stop.is_set() or (self._next and len(awaiting) < MAX_AWAITING)
                    )
                    captured = self._next
                    if ended or self._stop.is_set() or captured is None:
                        return
                    self._next = None
                    awaiting[sequence] = captured, time.monotonic()
                sequence += 1
                yield captured.image

        model = client.model_info()
        self._server_problem = None
        try:
            for outcome in client.stream(
                images(),
                _OPTIONS,
                camera_id=self._source.name,
                overflow_policy=OverflowPolicy.DROP_OLDEST,
                max_in_flight=MAX_IN_FLIGHT,
            ):
                with self._changed:
                    captured, sent = awaiting.pop(outcome.sequence)
                    self._heard = time.monotonic()
                    self._changed.notify_all()
                answer = outcome.segmentation
                if answer is not None and answer.model_digest != model.digest:
                    model = client.model_info()
                self._take(outcome, captured, self._heard - sent, model)
        finally:
            with self._changed:
                ended = True
                self.figures.dropped(LOST, len(awaiting))
                awaiting.clear()
                self._changed.notify_all()

    def _take(self, outcome: Outcome, captured: Captured, round_trip: float, model: ModelInfo) -> None:
        if outcome.segmentation is not None:
            self.figures.segmented(outcome.segmentation.timings, round_trip)
            with self._changed:
                self._pairs += 1
                self._pair = Pair(self._pairs, captured, outcome.segmentation, model)
                self._changed.notify_all()
        elif outcome.dropped is not None:
            self.figures.dropped(outcome.dropped)
        else:
            self.figures.failed(f"{captured.name}: {outcome.error}")


def _told(error: Exception) -> str:
    if not isinstance(error, InputError | ServerError):
        logger.error("internal error", exc_info=error)
    return str(error) or type(error).__name__
