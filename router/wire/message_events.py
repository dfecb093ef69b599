"""The events and blocks of a message, read as far as an answer that is made from them needs it."""

import msgspec


class TokenCounts(msgspec.Struct, gc=False):
    """The tokens of a message, in the Messages API's own fields; None is unknown."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class Content(msgspec.Struct, frozen=True, gc=False):
    """A content block as it starts, or a delta to one: only the fields of its type hold something."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, msgspec.Raw] | None = None


class Block(msgspec.Struct, frozen=True):
    """A content block as an instance writes it, whole or at its start; None: missing or null.

    Read beside the raw block, which may hold more. `input` is null, or what may be no object.
    """

    type: str
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"null")


class Ending(msgspec.Struct, frozen=True, gc=False):
    """Why the message ends; None: this event does not say."""

    stop_reason: str | None = None


class Started(msgspec.Struct, frozen=True, gc=False):
    """The message of message_start, without what is the same in all."""

    usage: TokenCounts | None = None


class MessageStart(msgspec.Struct, frozen=True, gc=False):
    """message_start."""

    message: Started


class BlockStart(msgspec.Struct, frozen=True, gc=False):
    """content_block_start."""

    index: int
    content_block: Content


class BlockDelta(msgspec.Struct, frozen=True, gc=False):
    """content_block_delta."""

    index: int
    delta: Content


class BlockStop(msgspec.Struct, frozen=True, gc=False):
    """content_block_stop."""

    index: int


class MessageDelta(msgspec.Struct, frozen=True, gc=False):
    """message_delta; its usage counts from the start of the message."""

    delta: Ending
    usage: TokenCounts | None = None


block_decoder = msgspec.json.Decoder(Block)
message_start_decoder = msgspec.json.Decoder(MessageStart)
block_start_decoder = msgspec.json.Decoder(BlockStart)
block_delta_decoder = msgspec.json.Decoder(BlockDelta)
block_stop_decoder = msgspec.json.Decoder(BlockStop)
message_delta_decoder = msgspec.json.Decoder(MessageDelta)
