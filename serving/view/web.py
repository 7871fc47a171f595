"""The live view's web server: the page, its two files, and the latest pair with the figures.

A browser asks for whatever is newer than what it shows and gets frame, mask and figures in one answer, so that they
belong together and that it asks again only when it has drawn them. Only GET; no path reaches the file system; while
the address is loopback, a request under another name is refused, since a page elsewhere could send it (DNS rebinding).
"""

import functools
import json
import logging
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from serving.addresses import is_loopback
from serving.http_server import HttpServer
from serving.view.feed import Feed, Pair

ASSETS = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
"""The files of `assets/` by their paths in the browser."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer."""
WAIT = 1.0
"""Seconds that an answer waits for a newer pair before it brings the figures alone."""

logger = logging.getLogger(__name__)


class ViewServer(HttpServer):
    """Shows a feed; `start` and `stop` it from any thread.

    Parameters
    ----------
    feed
        What to show.
    address
        HOST:PORT to listen at; port 0 takes a free one.

    Attributes
    ----------
    url
        Where the page is.

    Raises
    ------
    InputError
        If the address cannot be bound.
    """

    def __init__(self, feed: Feed, address: str = "127.0.0.1:0") -> None:
        super().__init__(address, "address", _Handler)
        self.feed = feed
        self.loopback = is_loopback(f"[{self.server_address[0]!s}]:")
        self.url = f"http://{self.address}/"


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "onepixel", ""
    disable_nagle_algorithm = True
    timeout = 30  # of an idle connection, and of a browser that does not read

    def do_GET(self) -> None:
        if self.server.loopback and not _is_local_name(self.headers.get("Host", "")):
            self.send_error(HTTPStatus.FORBIDDEN, explain="This view answers to localhost only.")
            return
        target = urlsplit(self.path)
        if target.path in ASSETS:
            name, content_type = ASSETS[target.path]
            self._answer(content_type, _asset(name))
        elif target.path == "/state":
            self._answer("application/json", json.dumps(self.server.feed.to_json()).encode())
        elif target.path == "/next":
            after = parse_qs(target.query).get("after", ["0"])[0]
            if not after.isdecimal():
                self.send_error(HTTPStatus.BAD_REQUEST, explain="after: should be the number of a pair.")
                return
            pair = self.server.feed.newer(int(after), WAIT)
            self._answer(*_form(self.server.feed.to_json(), pair))
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@functools.cache
def _asset(name: str) -> bytes:
    return (files("serving.view") / "assets" / name).read_bytes()


def _form(state: dict[str, Any], pair: Pair | None) -> tuple[str, bytes]:
    """Pack the figures, and a pair where there is one, as multipart/form-data, which browsers unpack themselves."""
    parts = [("state", "", "application/json", json.dumps(state | {"pair": pair and pair.to_json()}).encode())]
    if pair is not None:
        frame, mask = pair.pictures()
        parts.append(("frame", '; filename="frame.jpg"', "image/jpeg", frame))
        parts.append(("mask", '; filename="mask.png"', "image/png", mask))
    boundary = secrets.token_hex(16)
    chunks = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n'
        f"Content-Type: {content_type}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, file_name, content_type, content in parts
    ]
    return f"multipart/form-data; boundary={boundary}", b"".join(chunks) + f"--{boundary}--\r\n".encode()


def _is_local_name(header: str) -> bool:
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    return is_loopback(f"[{host}]:" if ":" in host else f"{host}:")
