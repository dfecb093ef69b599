"""Decoding JSON that others wrote, with one error for all that can be wrong with it."""

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
