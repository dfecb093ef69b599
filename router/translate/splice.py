"""Single fields put into a body or an answer; every other value stays as it was written."""

import re

import msgspec

from router.wire.reading import read
from router.wire.signature import PREFIX

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TRAILING_BRACE = re.compile(rb"\}\s*\Z")


def with_max_tokens(body: bytes, max_tokens: int) -> bytes:
    """Add the pool's default to a body that has none; spliced in at the end, since nothing else may change."""
    if b'"max_tokens"' in body:  # null, or the word elsewhere
        fields = read(_raw_object, body)
        fields["max_tokens"] = msgspec.Raw(b"%d" % max_tokens)
        return msgspec.json.encode(fields)
    return _TRAILING_BRACE.sub(b',"max_tokens":%d}' % max_tokens, body)


def with_model(body: bytes, model: str) -> bytes:
    """Name the model as the instance knows it; every other byte of the values stays as the client wrote it."""
    fields = read(_raw_object, body)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


# What a thinking block of ours is known by: no signature, or one that packs the text (wire.signature).
_FOREIGN = re.compile(rb'"signature"\s*:\s*"(?:llr1\.[^"]*)?"')


class _Signed(msgspec.Struct, frozen=True):
    type: str = ""
    signature: str | None = None


_signed = msgspec.json.Decoder(_Signed)
_raws = msgspec.json.Decoder(list[msgspec.Raw])


def without_foreign_thoughts(body: bytes) -> bytes:
    """Leave out thinking that the hosted API has not signed: it refuses the whole conversation for it.

    A body without any comes back as it is; in another, every other block stays as it was written.
    """
    if not _FOREIGN.search(body):
        return body
    fields = read(_raw_object, body)
    messages = [_own_thoughts(message) for message in read(_raws, fields["messages"])]
    fields["messages"] = msgspec.Raw(b"[" + b",".join([message for message in messages if message]) + b"]")
    return msgspec.json.encode(fields)


def _own_thoughts(message: msgspec.Raw) -> bytes:
    """Return the message; empty when nothing is left of it."""
    fields = read(_raw_object, message)
    content = fields.get("content", msgspec.Raw(b"null"))
    if not bytes(content).startswith(b"["):
        return bytes(message)
    blocks = read(_raws, content)
    kept = [block for block in blocks if not _is_foreign(block)]
    if len(kept) == len(blocks):
        return bytes(message)
    if not kept:
        return b""
    fields["content"] = msgspec.Raw(b"[" + b",".join(kept) + b"]")
    return msgspec.json.encode(fields)


def _is_foreign(block: msgspec.Raw) -> bool:
    if b"thinking" not in bytes(block):
        return False
    said = read(_signed, block)
    signature = said.signature or ""
    return said.type == "thinking" and (not signature or signature.startswith(PREFIX))
