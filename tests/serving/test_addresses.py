"""What an address says of who reaches it."""

from serving.addresses import is_loopback


def test_loopback_is_known_by_the_address() -> None:
    addresses = ("127.0.0.1:1", "localhost:1", "[::1]:1", "0.0.0.0:1", "camera:1", "[::]:1", "127.camera.example:1", "")
    assert [is_loopback(address) for address in addresses] == [True] * 3 + [False] * 5
