"""How a server's log looks: a line of text or a JSON object per event, with the id of the request it is about."""

import json
import logging
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

from serving.settings import OperationSettings

REQUEST_ID = "x-request-id"
"""The metadata in which a caller may say what its request is called; the log's lines about it say the same."""
MAX_REQUEST_ID = 128


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `message`, and what the event has beside."""

    def format(self, record: logging.LogRecord) -> str:
        """Lay out a record."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "event", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def configure_logging(settings: OperationSettings) -> None:
    """Send the log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])


def request_id(metadata: Mapping[str, str]) -> str:
    """Return what the caller calls its request, or a new id."""
    return metadata.get(REQUEST_ID, "")[:MAX_REQUEST_ID] or uuid.uuid4().hex
