"""Our client's way over HTTP, to a server in this process that answers as the handler does."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from onepixel.v1 import segmentation_pb2 as pb

from serving.client import Client, Credentials, ServerError
from serving.errors import InputError
from serving.torchserve import transport


@contextmanager
def answering(address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[tuple[str, list[object]]]:
    """A server that answers every request as soon as it has slept for as long as the path's model name says."""
    connections: list[object] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self.request)
            super().setup()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(float(self.path.rpartition("/")[2]))
            if self.headers["onepixel-call"]:
                body = pb.GetModelInfoResponse(model=pb.ModelInfo(name="here")).SerializeToString()
            else:
                answer = pb.StreamSegmentResponse(segmentation=pb.Segmentation(model_name="here"))
                answer.segmentation.mask.CopyFrom(pb.Mask(width=2, height=1, encoding=pb.MASK_ENCODING_RAW, data=b"ab"))
                body = answer.SerializeToString()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(address, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"torchserve+http://127.0.0.1:{server.server_port}", connections
        server.shutdown()
        thread.join()


@pytest.fixture
def free() -> tuple[str, int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host, port = taken.getsockname()
        return host, port


def test_streams_share_their_connections() -> None:
    with answering() as (address, connections), Client(address, model_name="0.01") as client:
        for _ in range(3):
            outcomes = list(client.stream([np.zeros((1, 2, 3), np.uint8)] * 8))
            assert [outcome.sequence for outcome in outcomes] == list(range(8))
            assert all(outcome.segmentation is not None for outcome in outcomes)
        assert len(connections) <= transport.IN_FLIGHT


def test_each_call_has_a_time_limit_of_its_own() -> None:
    with answering() as (address, _), Client(address, model_name="0.2", timeout=0.05) as client:
        client.wait_ready(5)  # its connection is the next call's
        with pytest.raises(ServerError) as late:
            client.model_info()
        assert late.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("scheme", [transport.HTTP_SCHEME, transport.GRPC_SCHEME])
def test_whom_nobody_answers_is_told_in_time(free: tuple[str, int], scheme: str) -> None:
    with Client(f"{scheme}127.0.0.1:{free[1]}", model_name="0") as client, pytest.raises(ServerError) as absent:
        client.wait_ready(0.5)
    assert absent.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_client_waits_until_the_server_is_there(free: tuple[str, int]) -> None:
    with Client(f"torchserve+http://127.0.0.1:{free[1]}", model_name="0") as client:
        waiting = threading.Thread(target=client.wait_ready, args=(20,))
        waiting.start()
        time.sleep(2 * transport.PAUSE)
        with answering(free):
            waiting.join(20)
            assert client.model_info().name == "here"


def test_who_asks_for_encryption_is_not_sent_in_the_clear() -> None:
    with pytest.raises(InputError, match=r"is in the clear; with authorities take torchserve://"):
        Client("torchserve+http://127.0.0.1:8080", model_name="a", credentials=Credentials(Path("ca.pem"), token="x"))
