import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.client import AsyncClient, Client, MaskEncoding, OverflowPolicy, SegmentOptions, ServerError
from serving.errors import InputError
from serving.frames import Pixels, encode_png
from serving.model import Model
from serving.server import Server


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_pixels_bytes_and_paths_give_one_mask(client: Client, frame: Pixels, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    path.write_bytes(encode_png(frame))
    mask, confidence = model.segment(frame)
    for image in (frame, path.read_bytes(), path, str(path)):
        answer = client.segment(image)
        assert np.array_equal(answer.mask, mask)
        assert answer.confidence is None and answer.histogram is None
        assert answer.model_digest == model.digest
    answer = client.segment(frame, SegmentOptions(MaskEncoding.RLE, want_confidence=True, want_histogram=True))
    assert answer.confidence is not None and np.array_equal(answer.confidence, confidence)
    assert answer.histogram == tuple(np.bincount(mask.ravel(), minlength=3).tolist())
    grey = client.segment(frame[:, :, 0])
    assert np.array_equal(grey.mask, np.zeros_like(mask))  # of equal channels the first wins


def test_model_info_has_a_palette(client: Client, model: Model) -> None:
    info = client.model_info()
    assert info.classes == model.metadata.classes
    assert info.input_size == (24, 32)
    assert info.palette[[0, 1, 2, 255]].tolist() == [[200, 0, 0], [0, 200, 0], [0, 0, 200], [0, 0, 0]]


def test_refusals_are_server_errors(client: Client, server: Server) -> None:
    with pytest.raises(ServerError, match="INVALID_ARGUMENT: image: 0 bytes") as caught:
        client.segment(b"")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with Client(server.address, model_name="other") as other:
        for call in (other.model_info, lambda: other.segment(b""), lambda: list(other.stream([])), other.wait_ready):
            with pytest.raises(ServerError, match="NOT_FOUND"):
                call()


def test_the_server_logs_what_the_caller_calls_its_request(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="serving"):
        with pytest.raises(ServerError, match="INVALID_ARGUMENT"):
            client.segment(b"", request_id="drive 3")
        assert [outcome.error is not None for outcome in client.stream([b""], request_id="drive 4")] == [True]
    first, second = (record.getMessage() for record in caplog.records)
    assert "request 'drive 3'" in first and "request 'drive 4'" in second
    for wrong in ("Straße", "two\nlines"):
        with pytest.raises(InputError, match=r"request_id: .*; should be printable ASCII"):
            client.segment(b"", request_id=wrong)


def test_the_asynchronous_client_names_its_requests(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async def refused() -> None:
        async with AsyncClient(server.address) as client:
            with pytest.raises(ServerError, match="INVALID_ARGUMENT"):
                await client.segment(b"", request_id="drive 5")

    with caplog.at_level("INFO", logger="serving"):
        asyncio.run(refused())
    assert "request 'drive 5'" in caplog.records[0].getMessage()


def test_wrong_input_never_leaves_the_client(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="float64"):
        client.segment(np.zeros((2, 2, 3)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a list; should be a numpy array"):
        client.segment([[1, 2, 3]])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be read: No such file"):
        client.segment(tmp_path / "none.jpg")


def test_nobody_there(nobody: str) -> None:
    with Client(nobody) as client:
        began = time.monotonic()
        with pytest.raises(ServerError, match=f"no server answers at {nobody} within 0.2 s: nobody listens there"):
            client.wait_ready(0.2)
        with pytest.raises(ServerError, match="UNAVAILABLE"):
            client.segment(b"")
        with pytest.raises(ServerError, match="UNAVAILABLE"):
            list(client.stream([b""]))
        assert time.monotonic() - began < 3


def test_an_address_without_a_port_is_told() -> None:
    with Client("localhost") as client, pytest.raises(ServerError, match="gRPC asks 443: give HOST:PORT"):
        client.wait_ready(0.2)


def test_stream_outcomes_in_order(client: Client, frame: Pixels, model: Model) -> None:
    images = [frame, b"text", encode_png(frame), frame[::-1]]
    outcomes = list(client.stream(images, overflow_policy=OverflowPolicy.BLOCK, max_in_flight=2))
    assert [outcome.sequence for outcome in outcomes] == [0, 1, 2, 3]
    assert outcomes[1].error is not None and outcomes[1].error.code is grpc.StatusCode.INVALID_ARGUMENT
    last = outcomes[3].segmentation
    assert last is not None and np.array_equal(last.mask, model.segment(np.ascontiguousarray(frame[::-1]))[0])


def test_stream_drops_are_told(client: Client, frame: Pixels) -> None:
    options = SegmentOptions(max_age=1e-6)
    assert [outcome.dropped for outcome in client.stream([frame] * 3, options)] == ["EXPIRED"] * 3


def test_what_the_callers_frames_raise_comes_out(client: Client, frame: Pixels, tmp_path: Path) -> None:
    def frames() -> Iterator[Pixels]:
        yield frame
        raise KeyError("the camera is gone")

    outcomes = []
    with pytest.raises(KeyError, match="the camera is gone"):
        for outcome in client.stream(frames()):
            outcomes.append(outcome.segmentation)
    assert len(outcomes) == 1 and outcomes[0] is not None
    with pytest.raises(InputError, match="cannot be read"):
        list(client.stream([tmp_path / "none.png"]))


def test_leaving_a_stream_early_frees_it(client: Client, frame: Pixels) -> None:
    def endless() -> Iterator[Pixels]:
        while True:
            yield frame

    for _ in range(20):  # more than the server's streams
        for outcome in client.stream(endless()):
            assert outcome.segmentation is not None
            break
        time.sleep(0.02)


def test_the_asynchronous_client_does_the_same(server: Server, frame: Pixels, model: Model, nobody: str) -> None:
    async def cameras() -> AsyncIterator[Pixels | bytes]:
        yield frame
        yield b""

    async def broken() -> AsyncIterator[Pixels]:
        yield frame
        raise KeyError("the camera is gone")

    async def run() -> None:
        async with AsyncClient(server.address) as client:
            await client.wait_ready(5)
            assert (await client.model_info()).digest == model.digest
            answers = await asyncio.gather(*(client.segment(frame) for _ in range(8)))
            assert all(np.array_equal(answer.mask, model.segment(frame)[0]) for answer in answers)
            with pytest.raises(ServerError, match="INVALID_ARGUMENT"):
                await client.segment(b"text")
            for images in (cameras(), [frame, b""]):
                outcomes = [outcome async for outcome in client.stream(images)]
                assert [outcome.sequence for outcome in outcomes] == [0, 1]
                assert outcomes[0].segmentation is not None and outcomes[1].error is not None
            outcomes = []
            with pytest.raises(KeyError, match="the camera is gone"):
                async for outcome in client.stream(broken()):
                    outcomes.append(outcome)
            assert len(outcomes) == 1 and outcomes[0].segmentation is not None
        async with AsyncClient(nobody) as client:
            with pytest.raises(ServerError, match="no server answers"):
                await client.wait_ready(0.2)

    asyncio.run(run())
