"""What an address says of who reaches it."""

import pytest

from serving.addresses import is_loopback, without_password


def test_loopback_is_known_by_the_address() -> None:
    addresses = ("127.0.0.1:1", "localhost:1", "[::1]:1", "0.0.0.0:1", "camera:1", "[::]:1", "127.camera.example:1", "")
    addresses += ("LOCALHOST:1", "localhost", "unix:/run/camera.sock")
    assert [is_loopback(address) for address in addresses] == [True] * 3 + [False] * 5 + [True] * 3


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:hush@camera/front", "rtsp://camera/front"),
        ("postgresql:///runs?user=me&password=hush", "postgresql:///runs"),
        ("https://mlflow.example:5000/", "https://mlflow.example:5000/"),
        ("sqlite:///runs/mlflow.db", "sqlite:///runs/mlflow.db"),
        ("runs/mlflow?.db", "runs/mlflow?.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
