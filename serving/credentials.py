"""How a client and a server know each other; the server's side is in `serving.security`."""

import logging
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from serving.addresses import is_loopback
from serving.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Credentials:
    """How a client knows its server, and the server it; without any, calls are in the clear."""

    authorities: Path | str | None = None
    """PEM file of the authorities that vouch for the server; with it calls are encrypted."""
    certificate: Path | str | None = None
    """PEM file of the client's own certificate chain, where the server asks for one."""
    private_key: Path | str | None = None
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

    def warn_in_the_clear(self, address: str) -> None:
        """Tell the log where a token goes to another machine without encryption."""
        if self.token and not is_loopback(address):
            logger.warning("%s: the token goes there in the clear; authorities encrypt", address)

    def connect(self, module: Any, address: str, options: Sequence[tuple[str, int]]) -> Any:
        """Open a channel of `grpc` or `grpc.aio`, encrypted where there are authorities.

        Raises
        ------
        InputError
            If a file cannot be read or holds something else, or one belongs to another that is missing.
        """
        if (self.certificate is None) != (self.private_key is None) or (self.certificate and not self.authorities):
            raise InputError("credentials: certificate and private_key belong together, and with authorities")
        if self.authorities is None:
            self.warn_in_the_clear(address)
            return module.insecure_channel(address, options=options)
        certificate, key = None, None
        if self.certificate is not None and self.private_key is not None:
            certificate, key = read_certificate(self.certificate, self.private_key)
        known = grpc.ssl_channel_credentials(read_authorities(self.authorities), key, certificate)
        return module.secure_channel(address, known, options=options)


def read_certificate(certificate: Path | str, private_key: Path | str) -> tuple[bytes, bytes]:
    """Return a certificate chain and its key, PEM both.

    Raises
    ------
    InputError
        If one cannot be read or is no PEM file of its kind, the key is encrypted or another certificate's.
    """
    chain, key = read_file(certificate), read_file(private_key, secret=True)
    for path, content, what in zip(
        (certificate, private_key), (chain, key), ("BEGIN CERTIFICATE", "PRIVATE KEY"), strict=True
    ):
        if what.encode() not in content:
            raise InputError(f"{path}: should be a PEM file that holds '{what}'")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how strong a key must be is not for this check to say

    def no_password() -> str:
        raise InputError(f"{private_key}: is encrypted; write it without a password: openssl pkey -in FILE -out FILE")

    try:
        context.load_cert_chain(certificate, private_key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InputError(f"{private_key}: is not the key of {certificate}") from error
        raise InputError(f"{certificate}, {private_key}: cannot be read as PEM: {error.reason}") from error
    if (chain, key) != (read_file(certificate), read_file(private_key)):
        return read_certificate(certificate, private_key)  # replaced meanwhile: what was checked is something else
    return chain, key


def read_authorities(path: Path | str) -> bytes:
    """Return the authorities' certificates, PEM.

    Raises
    ------
    InputError
        If the file cannot be read, or holds no certificate in PEM.
    """
    content = read_file(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise InputError(f"{path}: should be a PEM file of certificates") from error
    return content


def read_file(path: Path | str, *, secret: bool = False) -> bytes:
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
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise InputError(f"{path}: cannot be read: it is no regular file")
        if secret and mode & stat.S_IROTH:
            logger.warning("%s: everybody on this machine may read it; chmod o-r", path)
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
