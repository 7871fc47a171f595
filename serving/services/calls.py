"""Which calls are under way: bounded, awaited and ended as a group.

A call has left when gRPC is through with it, not when its handler returns: the answer is sent after that, and a
server that stopped in between would lose it.
"""

import threading
from collections import Counter
from collections.abc import Callable

import grpc

from serving.errors import Closed, QueueFull

MAX_HELD_SECONDS = 1.0
"""How long a refusal is held at most."""


class Calls:
    """A group of calls; all methods may be called from any thread.

    Parameters
    ----------
    what
        What they are, for the refusal: "all 16 idle calls are taken".
    limit
        How many at the same time; None means no limit of its own.
    per_client
        How many of one client; None means no limit.
    max_clients
        How many clients may have one at the same time; None means no limit.
    """

    def __init__(
        self, what: str, limit: int | None = None, per_client: int | None = None, max_clients: int | None = None
    ) -> None:
        self._what = what
        self._limit = limit
        self._per_client = per_client
        self._max_clients = max_clients
        self._clients: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._ends: dict[object, Callable[[], None]] = {}
        self._closed = False
        self._refuse = threading.Event()
        self._refuse.set()

    def enter(self, context: grpc.ServicerContext, end: Callable[[], None], client: str = "") -> Callable[[], None]:
        """Count a call until gRPC is through with it.

        Parameters
        ----------
        context
            The call's.
        end
            What `close` does to it; must not block.
        client
            Whose it is; empty counts to no client.

        Returns
        -------
        A function that counts the call no more; it may be called early, and again.

        Raises
        ------
        Closed
            After `close`.
        QueueFull
            If a limit is reached.
        """
        key = object()

        def leave() -> None:
            with self._changed:
                if self._ends.pop(key, None) is not None and client:
                    self._clients[client] -= 1
                    if not self._clients[client]:
                        del self._clients[client]
                self._changed.notify_all()

        if self._closed:
            self._refuse.wait(MAX_HELD_SECONDS)
        with self._changed:
            if self._closed:
                raise Closed("the server is draining")
            if self._limit is not None and len(self._ends) >= self._limit:
                raise QueueFull(f"all {self._limit} {self._what} are taken; retry later")
            if client:
                if self._max_clients and client not in self._clients and len(self._clients) >= self._max_clients:
                    raise QueueFull(f"{self._max_clients} clients have calls under way; retry later")
                if self._per_client is not None and self._clients[client] >= self._per_client:
                    raise QueueFull(f"all {self._per_client} {self._what} of one client are taken; end one")
                self._clients[client] += 1
            self._ends[key] = end
        if not context.add_callback(leave):
            leave()
        return leave

    @property
    def closed(self) -> bool:
        """Whether no more are let in."""
        return self._closed

    def close(self) -> None:
        """Let no more in, and end those that are."""
        with self._changed:
            self._closed = True
            ends = list(self._ends.values())
        for end in ends:
            end()

    def hold_refusals(self, hold: bool) -> None:
        """After `close`: keep those who come waiting for their refusal, or let them have it.

        Calls that reach gRPC just as it shuts down are cancelled without a word. Who waits sends no more of them.
        """
        if hold:
            self._refuse.clear()
        else:
            self._refuse.set()

    def wait(self, timeout: float) -> bool:
        """Wait until none is left; return whether that was within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._ends, timeout)
