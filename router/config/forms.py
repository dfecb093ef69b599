"""The kinds of scalars in the registry file: how each is read, explained and described to editors.

A new kind of value is one row here and one annotated name in `schema`.
"""

import re
from collections.abc import Callable, Mapping

import msgspec

from router.config import address, units

_NAME = r"[A-Za-z0-9._:/@+=~()\[\]-]"
_MODEL = rf"^{_NAME}{{1,128}}$"
_ALIAS = rf"^({_NAME}|\*){{1,128}}$"
_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of scalar.

    `read` raises ValueError("what is wrong; what to write"). `pattern` is what an editor can check of it, and
    None if nothing. `plain_text`: the value is a name, so something that YAML takes for a number, a date or a
    truth value was meant as text and only lacks its quotes.
    """

    read: Callable[[str], object]
    wanted: str
    pattern: str | None = None
    plain_text: bool = False


def _read_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty text; write something or leave the key out")
    if not text.isprintable():
        raise ValueError("has a line break or another character that cannot be shown; write one plain line")
    return text


def _read_model(text: str) -> str:
    if "*" in text:
        raise ValueError('has a "*"; write the model\'s one name, and patterns under aliases')
    return _matching(text, _MODEL, "model name", "letters, digits and . _ : / @ + = ~ ( ) [ ] -, at most 128")


def _read_alias(text: str) -> str:
    return _matching(text, _ALIAS, "alias", "letters, digits, * and . _ : / @ + = ~ ( ) [ ] -, at most 128")


def _read_id(text: str) -> str:
    return _matching(text, _ID, "name", "letters, digits, dots, dashes and underscores, at most 64, such as rig1-gpu0")


def _matching(text: str, pattern: str, kind: str, allowed: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError(f"is not a valid {kind}; write {allowed}")
    return text


FORMS: Mapping[str, Form] = {
    "text": Form(read=_read_text, wanted="text", plain_text=True),
    "secret": Form(read=_read_text, wanted='a key, best as "${NAME}" from the environment'),
    "model": Form(read=_read_model, wanted="a model name", pattern=_MODEL, plain_text=True),
    "alias": Form(read=_read_alias, wanted='a name or a pattern such as "claude-*"', pattern=_ALIAS, plain_text=True),
    "id": Form(read=_read_id, wanted="a name such as rig1-gpu0", pattern=_ID, plain_text=True),
    "host": Form(read=_read_id, wanted="a machine's name such as rig1", pattern=_ID, plain_text=True),
    "duration": Form(read=units.read_duration, wanted="a duration such as 20s", pattern=units.DURATION_PATTERN),
    "size": Form(read=units.read_size, wanted="a size such as 32MiB", pattern=units.SIZE_PATTERN),
    "listen": Form(read=address.read_listen, wanted="HOST:PORT, such as 127.0.0.1:8000", pattern=r"^.+:[0-9]{1,5}$"),
    "url": Form(read=address.read_url, wanted='an address such as "http://rig1:8080"', pattern=r"^https?://[^?#@]+$"),
    "metrics_url": Form(
        read=address.read_metrics_url,
        wanted='an address such as "http://rig1:9400/metrics"',
        pattern=r"^https?://[^?#@]+$",
    ),
    "origin": Form(
        read=address.read_origin,
        wanted='an origin such as "https://chat.example.org"',
        pattern=r"^(\*|https?://[^?#@/]+/?)$",
    ),
}
