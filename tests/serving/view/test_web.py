import http.client
import json
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import InputError
from serving.frames import decode_image
from serving.server import Server
from serving.view.feed import Feed
from serving.view.sources import Images
from serving.view.web import ASSETS, HEADERS, ViewServer
from tests.serving.view.conftest import CLASS_IDS


@pytest.fixture
def view(server: Server, folder: Path) -> Iterator[ViewServer]:
    feed = Feed(Images(folder), server.address, rate=50)
    view = ViewServer(feed)
    feed.start()
    view.start()
    yield view
    view.stop()
    feed.stop()


def ask(view: ViewServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", view.server_address[1], timeout=20)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def parts(response: http.client.HTTPResponse, body: bytes) -> dict[str, Any]:
    """Unpack a form as a browser does."""
    head = f"Content-Type: {response.headers['Content-Type']}\r\n\r\n".encode()
    message: Message = BytesParser().parsebytes(head + body)
    assert message.get_content_type() == "multipart/form-data"
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)  # type: ignore[union-attr, misc]
        for part in message.get_payload()
    }


def test_a_pair_and_its_figures_come_in_one_answer(view: ViewServer) -> None:
    number = 0
    for _ in range(10):
        found = parts(*ask(view, f"/next?after={number}"))
        state = json.loads(found["state"])
        pair = state["pair"]
        assert pair["number"] != number and state["problem"] is None and state["figures"]["arrived"] > 0
        number = pair["number"]
        frame, mask = decode_image(found["frame"]), decode_image(found["mask"])
        assert np.all(mask == CLASS_IDS[pair["name"]])
        assert int(frame.mean(axis=(0, 1)).argmax()) == CLASS_IDS[pair["name"]]


def test_the_figures_alone(view: ViewServer) -> None:
    response, body = ask(view, "/state")
    state = json.loads(body)
    assert response.headers["Content-Type"] == "application/json"
    assert state.keys() == {"source", "server", "problem", "figures"} and state["source"].endswith("frames")


def test_without_a_newer_pair_the_figures_come_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.view.web.WAIT", 0.05)
    view = ViewServer(Feed(Images(folder), "127.0.0.1:1"))  # never started
    view.start()
    found = parts(*ask(view, "/next"))
    assert found.keys() == {"state"} and json.loads(found["state"])["pair"] is None
    view.stop()


def test_the_page_loads_nothing_from_elsewhere(view: ViewServer) -> None:
    for path, (_, content_type) in ASSETS.items():
        response, body = ask(view, path)
        assert response.status == 200 and response.headers["Content-Type"] == content_type
        assert b"http:" not in body and b"https:" not in body and b"@import" not in body
        for name, value in HEADERS.items():
            assert response.headers[name] == value
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path", ["/page.html", "/../web.py", "/assets/page.js", "/%2e%2e/web.py", "//etc/passwd", "/favicon.ico"]
)
def test_no_path_reaches_the_file_system(view: ViewServer, path: str) -> None:
    response, body = ask(view, path)
    assert response.status == 404 and b"import" not in body
    assert response.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("after", ["x", "-1", "1e3", "%00"])
def test_a_bad_number_is_refused(view: ViewServer, after: str) -> None:
    response, body = ask(view, f"/next?after={after}")
    assert response.status == 400 and b"after: should be the number of a pair" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get(view: ViewServer, method: str) -> None:
    response, _ = ask(view, "/state", method)
    assert response.status == 501


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080"])
def test_local_names_are_answered(view: ViewServer, host: str) -> None:
    assert ask(view, "/", Host=host)[0].status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "10.0.0.1", "localhost.evil.example", "", "[x"])
def test_another_name_is_refused_at_loopback(view: ViewServer, host: str) -> None:
    response, body = ask(view, "/state", Host=host)
    assert response.status == 403 and b"localhost only" in body


def test_any_name_is_answered_elsewhere(folder: Path) -> None:
    view = ViewServer(Feed(Images(folder), "127.0.0.1:1"), "0.0.0.0:0")
    view.start()
    assert ask(view, "/state", Host="cameras.example")[0].status == 200
    view.stop()


def test_an_address_that_cannot_be_had(view: ViewServer) -> None:
    taken = f"127.0.0.1:{view.server_address[1]}"
    for address, message in (
        (taken, f"address: cannot listen at '{taken}': Address already in use; is the port in use"),
        ("8080", "address: '8080'; should be HOST:PORT, such as 127.0.0.1:50051"),
        ("127.0.0.1:99999", "should be HOST:PORT"),
        ("nowhere.invalid:0", "or the host unknown?"),
    ):
        with pytest.raises(InputError) as raised:
            ViewServer(view.feed, address)
        assert message in str(raised.value)
