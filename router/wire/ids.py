"""Tool call ids: what the client is shown for an instance's id, and back.

Clients of the Messages API expect `toolu_...`, and only letters, digits, `_` and `-` may follow when the conversation
is replayed to the hosted API. Instances make up anything: 32 random letters, `call_...`, `functions.Bash:0`. Nothing
is remembered between two calls, so the instance's id has to be readable from the client's.

| instance's id                                             | client's id               |
|-----------------------------------------------------------|---------------------------|
| legal characters, and no start that the next row needs    | `toolu_` + id             |
| anything else, or a start with `toolu_` or `hex_`         | `toolu_hex_` + its bytes  |
| none                                                      | the fallback              |
"""

import re

_CLIENT = "toolu_"
_HEX = "hex_"
_ours = re.compile(r"toolu_(?!toolu_|hex_)([a-zA-Z0-9_-]+)").fullmatch  # the common id, in one look
_legal = re.compile(r"[a-zA-Z0-9_-]+").fullmatch


def for_client(upstream_id: str, fallback: str) -> str:
    """Give the id under which the client knows a call; `fallback`: a client's id, for a call that came without one."""
    if not upstream_id:
        return fallback
    if _plain(upstream_id):
        return _CLIENT + upstream_id
    return _CLIENT + _HEX + upstream_id.encode("utf-8", "surrogatepass").hex()


def for_instance(client_id: str) -> str:
    """Give back the id that the instance chose.

    An id that is none of ours (a conversation that began elsewhere, `call_1`) stays as it is. The hosted API's
    `toolu_01...` loses its start, on the call and on its result alike.
    """
    if plain := _ours(client_id):
        return plain[1]
    if not client_id.startswith(_CLIENT):
        return client_id
    rest = client_id[len(_CLIENT) :]
    if rest.startswith(_HEX):
        return _unhexed(rest[len(_HEX) :]) or client_id
    return rest if _plain(rest) else client_id


def _plain(id_: str) -> bool:
    return bool(_legal(id_)) and not id_.startswith((_CLIENT, _HEX))


def _unhexed(digits: str) -> str | None:
    """The id in it; None where `for_client` would not have written these digits."""
    try:
        found = bytes.fromhex(digits).decode("utf-8", "surrogatepass")
    except ValueError:
        return None
    if found.encode("utf-8", "surrogatepass").hex() != digits or _plain(found):
        return None
    return found
