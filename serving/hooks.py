"""MLflow's webhooks, as a hint that an alias has moved.

A delivery is believed to be a hint, and no more, where its signature is right (HMAC-SHA256, standardwebhooks.com) and
it is not old: what the alias means is then asked of the registry itself.
"""

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from serving.credentials import read_file
from serving.errors import InputError

logger = logging.getLogger(__name__)

OLDEST_SECONDS = 300
"""A delivery that was signed longer ago may have been recorded and sent again."""
MAX_DIGITS = 12
"""Of a time in seconds."""


class MlflowHook:
    """Checks deliveries.

    Parameters
    ----------
    secret
        File with the secret that the webhook was made with.
    hint
        Is called for each that is believed.

    Raises
    ------
    InputError
        If the file cannot be read, or is empty.
    """

    def __init__(self, secret: Path, hint: Callable[[], None]) -> None:
        try:
            self._secret = read_file(secret, secret=True).strip()
        except InputError as error:
            raise InputError(f"repository.hint_secret: {error}") from error
        if not self._secret:
            raise InputError(f"repository.hint_secret: {secret} is empty; it should hold the webhook's secret")
        self._hint = hint

    def __call__(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Take a delivery; return whether it is believed."""
        headers = {name.lower(): value for name, value in headers.items()}
        stamp = headers.get("x-mlflow-timestamp", "")
        if not (stamp.isdecimal() and len(stamp) <= MAX_DIGITS) or abs(time.time() - int(stamp)) > OLDEST_SECONDS:
            return False
        signed = f"{headers.get('x-mlflow-delivery-id', '')}.{stamp}.".encode() + body
        expected = base64.b64encode(hmac.new(self._secret, signed, hashlib.sha256).digest())
        given = headers.get("x-mlflow-signature", "").removeprefix("v1,").encode()
        if not hmac.compare_digest(given, expected):
            logger.warning("a webhook without a valid signature is ignored")
            return False
        self._hint()
        return True
