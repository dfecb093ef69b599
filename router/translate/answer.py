"""What every kind of answer has in common, whatever dialect it comes in and goes out in."""

from typing import Protocol

import msgspec

from router.errors import RouterError


class Usage(msgspec.Struct, gc=False):
    """What an answer says that it used; None where it has not said it (yet).

    `input_tokens` are those that were computed: the whole prompt is their sum with `cache_read_input_tokens`.
    """

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class AnswerStream(Protocol):
    """A streamed answer on its way: an instance's bytes in, in any cut, the client's out.

    It never writes an error itself: it sets `error`, and whoever feeds it ends the stream with it. After `ended` or
    `error` everything that is fed is ignored.
    """

    @property
    def committed(self) -> bool:
        """The start of the answer has been given out: it can no longer be served elsewhere."""

    @property
    def ended(self) -> bool:
        """The answer is whole."""

    @property
    def error(self) -> RouterError | None:
        """Why it cannot go on."""

    @property
    def events(self) -> int:
        """Token events so far."""

    @property
    def usage(self) -> Usage:
        """As far as it is known."""

    @property
    def stop_reason(self) -> str:
        """In the Messages API's words, whatever the dialect; empty until known."""

    def through(self, frame: bytes, start: int) -> bytes | None:
        """Take the short way, once per token: one common event in, one out, both in chunked framing.

        `frame`: one whole chunk; from `start` to its last line break it is one event, or something that `feed` has to
        see, and then None comes back and nothing has happened. What goes out must be what `feed` would say.
        """

    def feed(self, data: bytes) -> bytes:
        """Return the bytes for the client; empty when nothing is ready or all was to be swallowed.

        Raises:
            EventTooLarge: the instance sends something without end.
            msgspec.DecodeError: an event that must be read is not JSON, or of another shape.

        """

    def finish(self) -> bytes:
        """Say what is still to be said now that the instance's body is over; `ended` tells whether it was whole."""
