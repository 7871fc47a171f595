"""How a client and a server know each other; the server's side is in `serving.security`."""

import logging
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from serving.errors import InputError

logger = logging.getLogger(__name__)


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
        """Return what each call carries.

        Raises
        ------
        InputError
            If the token cannot be sent.
        """
        if not (self.token.isascii() and self.token.isprintable()):
            raise InputError("credentials: the token should be printable ASCII")
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
        key = None if self.private_key is None else read_file(self.private_key, secret=True)
        certificate = None if self.certificate is None else read_file(self.certificate)
        known = grpc.ssl_channel_credentials(read_file(self.authorities), key, certificate)
        return module.secure_channel(address, known, options=options)


def read_file(path: Path, *, secret: bool = False) -> bytes:
    """Return a file's bytes.

    Parameters
    ----------
    path
        A regular file: a pipe or a device may never end.
    secret
        Whether it should be its user's alone; the log says so where everybody may read it.

    Raises
    ------
    InputError
        If it cannot be read, or is no regular file.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise InputError(f"{path}: cannot be read: it is no regular file")
        if secret and mode & stat.S_IROTH:
            logger.warning("%s: everybody on this machine may read it; chmod o-r", path)
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
