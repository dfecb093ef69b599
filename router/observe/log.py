"""One JSON line per call on standard output; everything else through `logging` on standard error.

Lines of one turn of the event loop are written together: one system call for many calls.
"""

import asyncio
import logging
import sys
from datetime import UTC, datetime
from typing import BinaryIO, Literal

import msgspec

from router.clock import wall_s
from router.wire.record import CallRecord

Level = Literal["debug", "info", "warning", "error"]


class CallLog:
    """Writes records as they come. A full or closed pipe loses lines, never a call; `lost` counts them."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._records: list[CallRecord] = []
        self._encoder = msgspec.json.Encoder(decimal_format="number")
        self.lost = 0

    def __repr__(self) -> str:
        return f"CallLog[{len(self._records)} lines wait, {self.lost} lost]"

    def record(self, record: CallRecord) -> None:
        """Take one line; it is written when this turn of the event loop is over."""
        if not self._records:
            asyncio.get_running_loop().call_soon(self.flush)
        self._records.append(record)

    def flush(self) -> None:
        """Write what has come."""
        records, self._records = self._records, []
        at = datetime.fromtimestamp(wall_s(), UTC).isoformat(timespec="milliseconds").encode()
        encode = self._encoder.encode
        try:
            self._out.write(b"".join([b'{"at":"%b",%b\n' % (at, encode(record)[1:]) for record in records]))
            self._out.flush()
        except (OSError, ValueError):
            self.lost += len(records)


def set_up_logging(level: Level) -> None:
    """Give the router's logger and uvicorn's errors one format on standard error; other loggers stay as they are."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("llama_router", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper() if name == "llama_router" else logging.WARNING)
    # httpx announces every probe, with its URL, at info.
    logging.getLogger("httpx").setLevel(logging.WARNING)
