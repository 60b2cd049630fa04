"""A line of JSON for each event. What is logged names no file and holds no picture."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

logger = logging.getLogger("lbam_fast.service")


class JsonLines(logging.Formatter):
    """The message as ``event``, and what ``extra={"fields": ...}`` brings."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=True, default=str)


def log(event: str, level: int = logging.INFO, exc_info: Any = None, **fields: Any) -> None:
    logger.log(level, event, exc_info=exc_info, extra={"fields": fields})


def start_logging(level: str) -> None:
    """Send the service's and the server's lines to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.captureWarnings(True)
    for name in (logger.name, "uvicorn", "py.warnings"):
        each = logging.getLogger(name)
        each.handlers, each.propagate = [handler], False
        each.setLevel(level.upper() if name == logger.name else "WARNING")
