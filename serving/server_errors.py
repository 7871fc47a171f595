"""What goes wrong between a client and its server, in words: refusals, and why a server cannot be reached."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

_ENDS = (
    "it ends the connection: it may encrypt (then name the authorities), ask for a certificate, or not know the one "
    "that it got"
)
_REASONS = (
    ("WRONG_VERSION_NUMBER", "it does not encrypt: leave the authorities out"),
    ("certificate has expired", "its certificate has expired"),
    ("certificate is not yet valid", "its certificate is not valid yet, by this machine's clock"),
    ("CERTIFICATE_VERIFY_FAILED", "the authorities do not vouch for its certificate"),
    ("Hostname Verification", "its certificate is for another name than the address has"),
    ("Socket closed", _ENDS),
    ("Connection reset", _ENDS),
    ("Connection refused", "nobody listens there"),
    ("errors resolving", "there is no such host"),
    ("DNS resolution failed", "there is no such host"),
)
"""What gRPC's words for a connection that cannot be made mean to a caller."""
_NO_CONNECTION = ("failed to connect", "errors resolving", "DNS resolution failed")
"""How the details of a call begin for which there was no connection."""


class ServerError(Exception):
    """The server's refusal of a call or of one frame, or its absence.

    Attributes
    ----------
    code
        The status, such as `grpc.StatusCode.INVALID_ARGUMENT`.
    message
        What the server said.
    retry_after
        Seconds after which the server expects to have room; None where it said nothing of it.
    """

    def __init__(self, code: grpc.StatusCode, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after


@contextmanager
def server_errors(failure: list[Exception] | None = None) -> Iterator[None]:
    """Turn grpc's errors into ours; where `failure` holds the caller's own, that is what went wrong."""
    try:
        yield
    except grpc.RpcError as error:
        if failure:
            raise failure[0] from None
        details = error.details() or ""
        reason = _reason(details) if details.startswith(_NO_CONNECTION) else ""
        raise ServerError(error.code(), f"{reason} ({details})" if reason else details, _retry_after(error)) from error


def absence(address: str, timeout: float, details: str) -> ServerError:
    """Say that no server answers, and why.

    Parameters
    ----------
    address
        HOST:PORT.
    timeout
        Seconds that were waited.
    details
        Of a call's status that failed at once, which end with what the last attempt met.
    """
    reason = _reason(details) or details.rpartition("last error: ")[2]
    if not address.rpartition(":")[2].isdecimal():
        reason += "; without a port gRPC asks 443: give HOST:PORT"
    return ServerError(grpc.StatusCode.UNAVAILABLE, f"no server answers at {address} within {timeout:g} s: {reason}")


def _reason(details: str) -> str:
    return next((text for words, text in _REASONS if words in details), "")


def _retry_after(error: grpc.RpcError) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-retry-pushback-ms":
            return int(value) / 1000
    return None
