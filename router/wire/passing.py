"""A request to a route that is only passed on: which model is meant, and whether the answer is a stream."""

import msgspec

from router.errors import RequestInvalid
from router.wire.chat import read_part


class PassHead(msgspec.Struct, frozen=True, gc=False):
    """`model` None: the client names none, as the routes of llama.cpp's own allow."""

    model: str | None = None
    stream: bool | None = None


_decoder = msgspec.json.Decoder(PassHead)


def decode_passing(body: bytes) -> PassHead:
    """Read a request body.

    Raises:
        RequestInvalid: it is not a JSON object, or one of the two fields is of another type.

    """
    if not body:
        raise RequestInvalid("The request has no body; send a JSON object.")
    head = read_part(_decoder, body)
    if head.model == "":
        raise RequestInvalid("Invalid 'model': empty string. Name a model; GET /v1/models lists them.")
    return head
