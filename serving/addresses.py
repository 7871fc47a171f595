"""HOST:PORT, free ports, and URLs that may be shown."""

import ipaddress
import socket
from urllib.parse import urlsplit

from serving.errors import InputError


def split_address(address: str, setting: str) -> tuple[str, int]:
    """Return the host and the port of HOST:PORT.

    Parameters
    ----------
    address
        An IPv6 host is in brackets, `[::1]:50051`, and is returned with them.
    setting
        What an error calls it.

    Raises
    ------
    InputError
        If it is none.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InputError(f"{setting}: '{address}'; should be HOST:PORT, such as 127.0.0.1:50051")
    return host, int(port)


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach HOST:PORT or unix:PATH; another name than localhost may be anybody's."""
    host = (address.rpartition(":")[0] or address).strip("[]").lower()
    try:
        return host in ("localhost", "unix") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_password(url: str) -> str:
    """Return a URL without its user, password and query, which may hold them too; anything else as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if not parts.scheme:
        return url
    bare = parts.netloc.rpartition("@")[2]
    return url.partition("?")[0].replace(f"//{parts.netloc}", f"//{bare}", 1)
