"""The signature of a thinking block, used as its memory.

A client that asked for `display: "omitted"` gets no thinking text, and sends the block back empty in the next turn.
The instance needs that text again: without it the prompt differs from the one in its cache. So the text travels,
packed, in the signature, which clients must return unchanged. It is not a secret and not a proof: it is what the client
could have read.
"""

import base64
import binascii
import zlib

PREFIX = "llr1."
MAX_BYTES = 1 << 20
"""The longest thinking that is packed or unpacked, as UTF-8."""
MAX_SWELL = 8
"""How many times its packed size a text may have; a body full of forged signatures could fill the memory otherwise."""
_SLACK_BYTES = 64


def seal(thinking: str) -> str:
    """Pack a thinking text; empty when the text is empty or over `MAX_BYTES`, and then nothing can be restored."""
    text = thinking.encode("utf-8", "surrogatepass")
    if not text or len(text) > MAX_BYTES:
        return ""
    packed = zlib.compress(text)
    if len(text) > _most(packed):
        packed = zlib.compress(text, 0)  # stored as it is
    return PREFIX + base64.b64encode(packed).decode("ascii")


def unseal(signature: str) -> str | None:
    """Give the text that `seal` packed; None for every other signature, the hosted API's and damaged ones included."""
    if not signature.startswith(PREFIX):
        return None
    try:
        packed = base64.b64decode(signature[len(PREFIX) :], validate=True)
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(packed, _most(packed) + 1)
        if not unpacking.eof or unpacking.unused_data or len(text) > _most(packed):
            return None
        return text.decode("utf-8", "surrogatepass") or None
    except (binascii.Error, zlib.error, ValueError):
        return None


def _most(packed: bytes) -> int:
    return min(MAX_BYTES, MAX_SWELL * len(packed) + _SLACK_BYTES)
