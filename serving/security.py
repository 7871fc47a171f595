"""Who may call: TLS, mutual TLS and bearer tokens; and which client a call is from.

A client is the name of its token, or else its certificate's, or else its connection. The queue lets clients take turns
and limits count by client, so that is what a caller cannot choose.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import grpc

from serving.credentials import read_authorities, read_certificate, read_file
from serving.errors import InputError
from serving.logs import request_id
from serving.settings import SecuritySettings

logger = logging.getLogger(__name__)

OPEN_SERVICES = ("/grpc.health.v1.Health/",)
"""What answers without a token: an orchestrator's probe has none."""
LOOK_SECONDS = 1.0
"""How often the file of tokens is looked at."""
SHORTEST_TOKEN = 16
"""Characters."""
_token_name: ContextVar[str | None] = ContextVar("token_name", default=None)
"""Whose token a call carries; gRPC runs a call's interceptors and its handler in one context."""


class Tokens:
    """The clients' tokens, by a file with a line `NAME TOKEN` for each; a comment begins with `#`, or ` #` after those.

    A file that changes is read anew within a second or two; one that is gone, or no more right, leaves the tokens as
    they were, and one that holds none lets nobody in.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        If it cannot be read, holds no token, a line that is none, or one token of two names.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = path.stat().st_mtime_ns if path.is_file() else 0
        self._digests = _token_digests(path)
        if not self._digests:
            raise InputError(f"{path}: no token; a line is NAME TOKEN")
        self._looked = time.monotonic()

    def name_of(self, authorization: str) -> str | None:
        """Return whose token `Bearer TOKEN` holds, in a time that does not depend on the token; None if nobody's."""
        self._refresh()
        kind, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        found = None
        for known, name in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found if kind.lower() == "bearer" else None

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        try:
            if self._stamp != (stamp := self._path.stat().st_mtime_ns):
                self._digests, self._stamp = _token_digests(self._path), stamp
                logger.info("%s: read anew, %d tokens", self._path, len(self._digests))
        except (OSError, InputError) as error:
            logger.error("the tokens stay as they were: %s", error)


class TokenInterceptor(grpc.ServerInterceptor):
    """Lets calls pass that carry a known token."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._refuse = grpc.stream_unary_rpc_method_handler(_refuse)  # which waits for no message

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Continue, or refuse with UNAUTHENTICATED."""
        name = self._tokens.name_of(_authorization(handler_call_details.invocation_metadata))
        if name is None and not handler_call_details.method.startswith(OPEN_SERVICES):
            return self._refuse
        _token_name.set(name)
        return continuation(handler_call_details)


class Clients:
    """Tells which client a call is from.

    Parameters
    ----------
    tokens
        Those that a `TokenInterceptor` has looked for; None where nobody needs one.
    """

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens

    def of(self, context: grpc.ServicerContext) -> str:
        """Return the client's name."""
        if self._tokens is not None:
            return f"token {_token_name.get()}"
        identities = context.peer_identities()
        if identities:
            return f"certificate {identities[0].decode('utf-8', 'replace')}"
        return str(context.peer())

    def stays_known(self, context: grpc.ServicerContext) -> Callable[[], bool]:
        """Return what tells, as long as a call lasts, whether its token is still among those that are known."""
        tokens, authorization = self._tokens, _authorization(context.invocation_metadata())
        return lambda: tokens is None or tokens.name_of(authorization) is not None


def server_credentials(settings: SecuritySettings) -> grpc.ServerCredentials | None:
    """Return what encrypts calls; None where they are in the clear.

    Certificates that are replaced on disk are taken from the next connection on.

    Raises
    ------
    InputError
        If a file cannot be read or holds something else.
    """
    if settings.certificate is None or settings.private_key is None:
        return None
    certificate, key, authorities = settings.certificate, settings.private_key, settings.client_authorities
    paths = [certificate, key, *([authorities] if authorities else [])]

    def read() -> grpc.ServerCertificateConfiguration:
        chain, own_key = read_certificate(certificate, key)
        roots = None if authorities is None else read_authorities(authorities)
        return grpc.ssl_server_certificate_configuration([(own_key, chain)], roots)

    def stamp() -> list[int]:
        return [path.stat().st_mtime_ns for path in paths]

    seen = stamp() if all(path.is_file() for path in paths) else []
    initial = read()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        try:
            if (now := stamp()) == seen:
                return None
            configuration, seen = read(), now
        except (OSError, InputError) as error:
            logger.error("the certificate stays as it was: %s", error)
            return None
        return configuration

    return grpc.dynamic_ssl_server_credentials(initial, newer, require_client_authentication=authorities is not None)


def _token_digests(path: Path) -> dict[bytes, str]:
    """Return the tokens' clients' names by the tokens' sha256."""
    digests: dict[bytes, str] = {}
    for number, line in enumerate(read_file(path, secret=True).decode("utf-8", "replace").splitlines(), start=1):
        words = [] if line.startswith("#") else line.split(" #")[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[1]) < SHORTEST_TOKEN:
            raise InputError(f"{path}: line {number} should be NAME TOKEN, of {SHORTEST_TOKEN} characters or more")
        digest = hashlib.sha256(words[1].encode()).digest()
        if digests.get(digest, words[0]) != words[0]:
            raise InputError(f"{path}: line {number}: the token of {words[0]} is that of {digests[digest]}, too")
        digests[digest] = words[0]
    return digests


def _authorization(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    """Return the one `authorization` of a call; empty where there is none, or more than one."""
    given = [value for key, value in metadata or () if key == "authorization"]
    return given[0] if len(given) == 1 and isinstance(given[0], str) else ""


def _refuse(_: object, context: grpc.ServicerContext) -> None:
    text = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    logger.info("refused: request %.80r of %s has no known token", request_id(text), context.peer())
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "the metadata `authorization: Bearer TOKEN` is missing or unknown")
