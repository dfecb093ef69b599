"""Reading one raw field of a request, and saying what is wrong as the hosted API does: dotted path, reason, fix."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from router.errors import RequestInvalid
from router.wire.anthropic import explain
from router.wire.reading import read

T = TypeVar("T")
_ROOT = "the body "
_ADD_IT = "; add it"


def read_field(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw, path: str) -> T:
    """Decode the field at `path`, for example `tools.2`.

    Raises:
        RequestInvalid: naming the part of the field that is wrong, and which values are known where there are few.

    """
    try:
        return read(decoder, data)
    except msgspec.ValidationError as error:
        raise wrong(path, error, decoder.type) from None
    except msgspec.DecodeError:
        raise RequestInvalid(f"{path}: is not valid JSON") from None


def wrong(path: str, error: msgspec.ValidationError, kind: Any = None) -> RequestInvalid:
    """Say what is wrong with the field at `path`, which should have been of this kind; None: nothing is known of it."""
    said = explain(error)
    if said.startswith(_ROOT):  # the field itself, not something in it
        return RequestInvalid(f"{path}: {said.removeprefix(_ROOT)}")
    inside, _, reason = said.partition(": ")
    if values := _values(kind, inside.split(".")):
        listed = ", ".join(f'"{value}"' for value in values)
        reason = f"{reason.removesuffix(_ADD_IT)}; {'one of' if len(values) > 1 else 'it can only be'} {listed}"
    return RequestInvalid(f"{path}.{inside}: {reason}")


def object_bytes(data: bytes | msgspec.Raw, path: str) -> bytes:
    """Give a JSON object as it was written. RequestInvalid: it is something else."""
    value = bytes(data)
    if value[:1] != b"{":
        raise RequestInvalid(f"{path}: must be an object")
    return value


def _values(kind: Any, steps: Sequence[str]) -> tuple[str, ...]:
    """Find the values that may stand so many steps inside this kind, as the Struct lists them; none: any may."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return () if steps else args
    if steps and origin in (list, tuple):
        return _values(args[0], steps[1:])
    if steps and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _values(get_type_hints(kind).get(steps[0]), steps[1:])
    return tuple(value for one in args for value in _values(one, steps))
