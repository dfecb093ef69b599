"""Images and documents: which sources a local model can be given, and in what words the others are refused."""

import msgspec

from router.errors import RequestInvalid
from router.wire.parts import Image, literal
from router.wire.shapes import Source


def image(source: Source, path: str) -> Image:
    """Read an image block at `path`.

    Raises:
        RequestInvalid: a file of the hosted API, or a URL that is not on the web (an instance might read its own disk).

    """
    if source.type == "base64":
        if not source.media_type.startswith("image/"):
            raise RequestInvalid(f'{path}.source.media_type: must be the type of an image, for example "image/png"')
        kept = {"type": "base64", "media_type": source.media_type, "data": source.data}
        return Image(msgspec.json.encode(kept), literal(f"data:{source.media_type};base64,{source.data}"))
    if source.type == "url":
        if not source.url.startswith(("https://", "http://")):
            raise RequestInvalid(f"{path}.source.url: must begin with https:// or http://")
        return Image(msgspec.json.encode({"type": "url", "url": source.url}), literal(source.url))
    raise RequestInvalid(
        f"{path}.source: local models can be given images as base64 or url, not as {_kind(source)}; "
        "send the image itself as base64"
    )


def document_text(source: Source, path: str) -> str:
    """Give the text of a document at `path` that is a text.

    Raises:
        RequestInvalid: it is a PDF, a URL or a file.

    """
    if source.type == "text":
        return source.data
    raise RequestInvalid(
        f"{path}.source: local models take text and images, and this document is given as {_kind(source)}"
        f"{_media(source)}; send its text: a source of type text or content"
    )


def _kind(source: Source) -> str:
    return source.type[:40]


def _media(source: Source) -> str:
    return f" ({source.media_type[:60]})" if source.media_type else ""
