"""Content of the Messages API is a text or a list of blocks, and any release may bring blocks that we do not know."""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from router.errors import RequestInvalid
from router.wire import shapes
from router.wire.fields import read_field, wrong
from router.wire.reading import read

Listed: TypeAlias = str | Sequence[tuple[int, shapes.Block]]
"""A text, or the blocks with their places."""

_content = msgspec.json.Decoder(str | list[shapes.Known] | None)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_decoders: dict[str, msgspec.json.Decoder[shapes.Block]] = {
    name: msgspec.json.Decoder(kind) for name, kind in shapes.KINDS.items()
}


class _Kind(msgspec.Struct, frozen=True, gc=False):
    type: str


_kind = msgspec.json.Decoder(_Kind)


def listed(content: bytes, path: str, dropped: list[str]) -> Listed:
    """Read the content at `path`; null is an empty text. The types of blocks that are not known go into `dropped`.

    Raises:
        RequestInvalid: naming the block and the field.

    """
    try:
        found = read(_content, content)
    except msgspec.ValidationError as error:
        if not content.startswith(b"["):
            raise wrong(path, error) from None
        return _one_by_one(content, path, dropped)
    except msgspec.DecodeError:
        raise RequestInvalid(f"{path}: is not valid JSON") from None
    return list(enumerate(found)) if isinstance(found, list) else found or ""


def _one_by_one(content: bytes, path: str, dropped: list[str]) -> Listed:
    found: list[tuple[int, shapes.Block]] = []
    raws = read_field(_raws, content, path)
    for place, raw in enumerate(raws):
        where = f"{path}.{place}"
        kind = read_field(_kind, raw, where).type
        if decoder := _decoders.get(kind):
            found.append((place, read_field(decoder, raw, where)))
        else:
            dropped.append(kind)
    return found
