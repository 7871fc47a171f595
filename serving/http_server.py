"""What our HTTP servers share: a thread of their own, IPv6, and a log instead of lines on standard error."""

import logging
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from serving.addresses import split_address
from serving.errors import InputError

logger = logging.getLogger(__name__)


class HttpServer(ThreadingHTTPServer):
    """Listens from the beginning; `start` and `stop` it from any thread.

    Parameters
    ----------
    address
        HOST:PORT to listen at; port 0 takes a free one.
    setting
        What an error calls the address.
    handler
        Answers requests.

    Attributes
    ----------
    address
        HOST:PORT with the port that was taken.

    Raises
    ------
    InputError
        If the address cannot be bound.
    """

    daemon_threads = True

    def __init__(self, address: str, setting: str, handler: type[BaseHTTPRequestHandler]) -> None:
        host, port = split_address(address, setting)
        bare = host.strip("[]")
        self.address_family = socket.AF_INET6 if ":" in bare else socket.AF_INET
        try:
            super().__init__((bare, port), handler)
        except OSError as error:
            raise InputError(
                f"{setting}: cannot listen at '{address}': {error.strerror or error}; "
                "is the port in use, or the host unknown?"
            ) from error
        self.address = f"{host}:{self.server_address[1]}"

    def server_bind(self) -> None:
        """Bind without asking the network for the host's name, as the base class would."""
        socketserver.TCPServer.server_bind(self)

    def start(self) -> None:
        """Begin to answer; returns at once."""
        name = type(self).__name__
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name=name, daemon=True).start()

    def stop(self) -> None:
        """Answer no more, only after `start`; answers under way are left to their threads."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what nobody foresaw; callers that leave amid an answer are no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            logger.exception("internal error")
