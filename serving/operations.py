"""What those who run a server ask over HTTP: /metrics for Prometheus, /livez and /readyz for an orchestrator.

MLflow's webhooks may be taken, too.

Not alive is a server whose engine hangs: to start it anew is all that helps. Not ready is one that drains.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from serving.http_server import HttpServer

HOOK_PATH = "/hooks/mlflow"
MAX_HOOK_BYTES = 2**16


class OperationsServer(HttpServer):
    """An HTTP server on a thread of its own.

    Parameters
    ----------
    address
        HOST:PORT; port 0 takes a free one.
    registry
        What /metrics tells.
    alive, ready
        What /livez and /readyz tell.
    hook
        Takes the headers and the body of POST /hooks/mlflow, and returns whether they are believed; None takes none.

    Raises
    ------
    InputError
        If the address cannot be bound.
    """

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        *,
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        hook: Callable[[Mapping[str, str], bytes], bool] | None = None,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds of silence after which a connection is closed

            def do_GET(self) -> None:
                if self.path == "/metrics":
                    encode, kind = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(HTTPStatus.OK, kind, encode(registry))
                elif self.path in ("/livez", "/readyz"):
                    well = alive() if self.path == "/livez" else ready()
                    status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
                    self._answer(status, "text/plain", b"ok\n" if well else b"no\n")
                else:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"/metrics, /livez or /readyz\n")

            def do_POST(self) -> None:
                size = self.headers.get("Content-Length", "")
                if hook is None or self.path != HOOK_PATH:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"nothing is taken here\n")
                elif not size.isdecimal() or int(size) > MAX_HOOK_BYTES:
                    self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "text/plain", b"too large\n")
                elif hook(dict(self.headers.items()), self.rfile.read(int(size))):
                    self._answer(HTTPStatus.OK, "text/plain", b"ok\n")
                else:
                    self._answer(HTTPStatus.UNAUTHORIZED, "text/plain", b"no valid signature\n")

            def log_message(self, *_: object) -> None:
                pass  # a scrape every few seconds is no news

            def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(address, "metrics_address", Handler)
