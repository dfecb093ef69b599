"""Requests and their answers as a tee sees them go by, and what is wrong with those that are event streams."""

import json
from collections.abc import Callable
from typing import Any

import httptools

from tests.rig.legality import check
from tests.rig.legality_chat import check_chat
from tests.rig.transcript import Illegal, begun

__all__ = ["Connection", "Exchange", "Illegal", "fault"]

STREAM = "text/event-stream"
# The one comment that the router puts into a stream of messages.
COMMENT = "x-router-instance: "


class Exchange:
    """One request and its answer. Bodies are without their framing."""

    def __init__(self) -> None:
        self.method = self.path = self.content_type = ""
        self.asked = self.said = b""
        self.status = 0  # 0: no head has come
        self.whole = False  # the answer ended as HTTP says that it ends
        self.left = False  # the client hung up before that
        self.cut = False  # the router did
        self.broken = ""  # why the answer is no HTTP

    def __repr__(self) -> str:
        ended = "broken" if self.broken else "whole" if self.whole else "left" if self.left else "cut"
        return f"<Exchange {self.method} {self.path} {self.status} {ended if self.over else 'under way'}>"

    @property
    def over(self) -> bool:
        return self.whole or self.left or self.cut or bool(self.broken)

    @property
    def is_stream(self) -> bool:
        return self.content_type.partition(";")[0].strip() == STREAM

    @property
    def usage_asked(self) -> bool:
        """Whether a chat completion is to end with its usage."""
        fields: dict[str, Any] = json.loads(self.asked)
        return bool((fields.get("stream_options") or {}).get("include_usage"))


def fault(exchange: Exchange) -> Illegal | None:
    """What is wrong with an answer, if it is an event stream; one that is not over is taken as left by its client."""
    if not exchange.is_stream:
        return None
    try:
        _hold(exchange)
    except Illegal as illegal:
        return Illegal(f"{exchange!r}: {illegal}")
    return None


def _hold(exchange: Exchange) -> None:
    if exchange.broken:
        raise Illegal(exchange.broken)
    if exchange.cut:
        raise Illegal(f"the router hung up inside a stream: {exchange.said[-200:]!r}")
    match exchange.path.partition("?")[0]:
        case "/v1/messages":
            said = check(exchange.said, comments=True, whole=exchange.whole)
            strange = [it for it in said.comments if not it.startswith(COMMENT)]
            if strange:
                raise Illegal(f"a comment that is none of the router's: {strange[0]!r}")
        case "/v1/chat/completions":
            check_chat(exchange.said, usage_asked=exchange.usage_asked, whole=exchange.whole)
        case _:  # a route that is only passed on: what stands in its events is the instance's affair
            if exchange.whole and begun(exchange.said) != exchange.said:
                raise Illegal(f"the bytes end inside an event: {exchange.said[-200:]!r}")


class Connection:
    """Reads both directions of one connection: request and answer by turns, on and on, never two requests at once."""

    def __init__(self, begun: Callable[[Exchange], None]) -> None:
        """`begun` is told of each exchange as its request comes."""
        self._begun = begun
        self._requests = httptools.HttpRequestParser(_Request(self))
        self._answers: httptools.HttpResponseParser | None = None
        self._garbled = False  # what the client sends is no HTTP, so nothing is known of its answer
        self.now: Exchange | None = None

    def from_client(self, data: bytes) -> None:
        if not self._garbled:
            try:
                self._requests.feed_data(data)
            except httptools.HttpParserError:
                self._garbled = True

    def from_router(self, data: bytes) -> None:
        if self.now is None or self.now.over or self._answers is None:
            return
        try:
            self._answers.feed_data(data)
        except httptools.HttpParserError as error:
            self.now.broken = f"the answer is no HTTP: {error}"

    def client_left(self) -> None:
        if self.now is not None and not self.now.over:
            self.now.left = True

    def router_left(self) -> None:
        if self.now is not None and not self.now.over:
            self.now.cut = True

    def begin(self) -> Exchange:
        """A request has begun."""
        self.now = Exchange()
        self._begun(self.now)
        answer = _Answer(self.now)
        self._answers = answer.parser = httptools.HttpResponseParser(answer)
        return self.now


class _Request:
    """What httptools tells of requests."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._of = Exchange()

    def on_message_begin(self) -> None:
        self._of = self._connection.begin()

    def on_url(self, url: bytes) -> None:
        self._of.path += url.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._of.method = self._connection._requests.get_method().decode()

    def on_body(self, body: bytes) -> None:
        self._of.asked += body


class _Answer:
    """What httptools tells of an answer; those that only say "go on" (1xx) come before it."""

    parser: httptools.HttpResponseParser

    def __init__(self, of: Exchange) -> None:
        self._of = of

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._of.content_type = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._of.status = self.parser.get_status_code()
        self._of.whole = self._of.method == "HEAD"  # it has no body, whatever its length says

    def on_body(self, body: bytes) -> None:
        self._of.said += body

    def on_message_complete(self) -> None:
        self._of.whole = self._of.status >= 200
