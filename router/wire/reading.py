"""Decoding JSON that others wrote, with one error for all that can be wrong with it.

JSON is UTF-8 (RFC 8259, 8.1), and msgspec does not look inside the strings that it skips or leaves raw: what goes on as
it came has to be checked for itself.
"""

from typing import TypeVar

import msgspec

T = TypeVar("T")


def read(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    """Decode.

    Raises:
        msgspec.ValidationError: JSON, of another shape.
        msgspec.DecodeError: not JSON, not UTF-8, or nested so deeply that nobody can have meant it.

    """
    try:
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"invalid UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None


def bad_utf8_at(data: bytes) -> int | None:
    """Return the place of the first byte that is no UTF-8; None: all of it is."""
    if data.isascii():
        return None
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def check_utf8(data: bytes) -> bytes:
    """Return it as it is, or raise msgspec.DecodeError: it is no UTF-8."""
    at = bad_utf8_at(data)
    if at is not None:
        raise msgspec.DecodeError(f"invalid UTF-8 (byte {at})")
    return data
