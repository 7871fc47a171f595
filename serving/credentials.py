"""How a client and a server know each other; the server's side is in `serving.security`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from serving.errors import InputError


@dataclass(frozen=True)
class Credentials:
    """How a client knows its server, and the server it; without any, calls are in the clear."""

    authorities: Path | None = None
    """PEM file of the authorities that vouch for the server; with it calls are encrypted."""
    certificate: Path | None = None
    """PEM file of the client's own certificate chain, where the server asks for one."""
    private_key: Path | None = None
    """PEM file of its key."""
    token: str = field(default="", repr=False)
    """The client's token, where the server asks for one."""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what each call carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def connect(self, module: Any, address: str, options: Sequence[tuple[str, int]]) -> Any:
        """Open a channel of `grpc` or `grpc.aio`, encrypted where there are authorities.

        Raises
        ------
        InputError
            If a file cannot be read, or one belongs to another that is missing.
        """
        if (self.certificate is None) != (self.private_key is None) or (self.certificate and not self.authorities):
            raise InputError("credentials: certificate and private_key belong together, and with authorities")
        if self.authorities is None:
            return module.insecure_channel(address, options=options)
        paths = (self.authorities, self.private_key, self.certificate)
        secret = grpc.ssl_channel_credentials(*(None if path is None else read_file(path) for path in paths))
        return module.secure_channel(address, secret, options=options)


def read_file(path: Path) -> bytes:
    """Return a file's bytes.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
