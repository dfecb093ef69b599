"""Reading one raw field of a request, and saying what is wrong as the hosted API does: dotted path, then the reason."""

from typing import TypeVar

import msgspec

from router.errors import RequestInvalid
from router.wire.anthropic import explain
from router.wire.reading import read

T = TypeVar("T")
_ROOT = "the body "


def read_field(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, path: str) -> T:
    """Decode the field at `path`, for example `tools.2`.

    Raises:
        RequestInvalid: naming the part of the field that is wrong.

    """
    try:
        return read(decoder, data)
    except msgspec.ValidationError as error:
        raise wrong(path, error) from None
    except msgspec.DecodeError:
        raise RequestInvalid(f"{path}: is not valid JSON") from None


def wrong(path: str, error: msgspec.ValidationError) -> RequestInvalid:
    """Say what is wrong with the field at `path`."""
    said = explain(error)
    if said.startswith(_ROOT):  # the field itself, not something in it
        return RequestInvalid(f"{path}: {said.removeprefix(_ROOT)}")
    return RequestInvalid(f"{path}.{said}")


def object_bytes(data: bytes | msgspec.Raw, path: str) -> bytes:
    """Give a JSON object as it was written. RequestInvalid: it is something else."""
    value = bytes(data)
    if value[:1] != b"{":
        raise RequestInvalid(f"{path}: must be an object")
    return value
