"""What errors are on the wire, in the metrics and in the log; and who makes a call, whom the log's lines name."""

import functools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from serving.errors import Closed, Expired, InputError, QueueFull, Unauthenticated
from serving.logs import request_id
from serving.metrics import Outcome
from serving.repository import UnknownModel

logger = logging.getLogger(__name__)

MAX_MESSAGE = 1000
"""Characters of a status's message."""

_STATUS: tuple[tuple[type[BaseException], grpc.StatusCode, Outcome], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT, Outcome.INVALID),
    (UnknownModel, grpc.StatusCode.NOT_FOUND, Outcome.INVALID),
    (QueueFull, grpc.StatusCode.RESOURCE_EXHAUSTED, Outcome.REFUSED),
    (Expired, grpc.StatusCode.DEADLINE_EXCEEDED, Outcome.EXPIRED),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, Outcome.INVALID),
    (Closed, grpc.StatusCode.UNAVAILABLE, Outcome.UNAVAILABLE),
    (CancelledError, grpc.StatusCode.CANCELLED, Outcome.CANCELLED),
    (grpc.RpcError, grpc.StatusCode.CANCELLED, Outcome.CANCELLED),  # of a request's messages: the client has left
)


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the status code and message that stand for an error; what nobody foresaw is INTERNAL, and logged."""
    for kind, code, _ in _STATUS:
        if isinstance(error, kind):
            # A status travels in a header, and the client's own text may be in it.
            return code, str(error.args[0])[:MAX_MESSAGE] if error.args else code.name.lower()
    logger.error("internal error", exc_info=error)
    return grpc.StatusCode.INTERNAL, "internal error; the server's log says more"


def outcome_of(error: Exception) -> Outcome:
    """Return what the metrics call a frame that ended with an error."""
    return next((outcome for kind, _, outcome in _STATUS if isinstance(error, kind)), Outcome.FAILED)


def answers_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a call that answers once end with the status that stands for what it raised."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except Exception as error:
            _abort(context, error)

    return call


def streams_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    """Do the same for a call that answers many times."""

    @functools.wraps(method)
    def call(self: Any, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from method(self, requests, context)
        except Exception as error:
            _abort(context, error)

    return call


def log_refusal(caller: "Caller", camera_id: str, sequence: int, error: Exception) -> None:
    """Log whose frame was refused and why; what overload refuses by the thousand only at debug."""
    level = logging.INFO if isinstance(error, InputError | UnknownModel) else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    event = {
        "request_id": caller.request_id,
        "client": caller.client,
        "camera_id": camera_id[:80],
        "sequence": sequence,
        "error": type(error).__name__,
    }
    # The client's own texts, so quoted and cut.
    text = "refused: request %.80r, camera %.80r, frame %d: %s: %.300r"
    logger.log(
        level, text, caller.request_id, camera_id, sequence, type(error).__name__, str(error), extra={"event": event}
    )


class Caller:
    """Who makes a call.

    Parameters
    ----------
    context
        The call's.
    client
        Its client, as the queue and the limits know it.
    """

    def __init__(self, context: grpc.ServicerContext, client: str) -> None:
        self._context = context
        self.client = client

    def is_there(self) -> bool:
        """Tell whether somebody still waits for the call."""
        return bool(self._context.is_active())

    @functools.cached_property
    def metadata(self) -> dict[str, str]:
        """The call's metadata that is text, by key; of a key that comes twice, the last."""
        return {key: value for key, value in self._context.invocation_metadata() or () if isinstance(value, str)}

    @functools.cached_property
    def request_id(self) -> str:
        """What the caller calls its request, or a new id."""
        return request_id(self.metadata)


def _abort(context: grpc.ServicerContext, error: Exception) -> None:
    code, message = status_of(error)
    if isinstance(error, QueueFull) and error.retry_after is not None:
        # Both hints: gRPC's own, which a client's retry policy follows by itself, and the one for people's code.
        pause = max(1, round(error.retry_after * 1000))
        info, detail = RetryInfo(), AnyMessage()
        info.retry_delay.FromMilliseconds(pause)
        detail.Pack(info)
        status = Status(code=code.value[0], message=message, details=[detail])
        context.set_trailing_metadata(
            (("grpc-retry-pushback-ms", str(pause)), ("grpc-status-details-bin", status.SerializeToString()))
        )
    context.abort(code, message)
