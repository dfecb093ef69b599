"""llama-server's plain answer, made the hosted API's."""

import msgspec

from router.translate import render
from router.translate.answer import Usage
from router.translate.blocks import BrokenAnswerError, ToolIds
from router.translate.echo import text_after, thinking_after
from router.translate.ending import Tally, asked_for, stop_reason
from router.wire import signature
from router.wire.message_events import Block, block_decoder
from router.wire.reading import check_utf8, read

_Fields = dict[str, msgspec.Raw]


class _Message(msgspec.Struct, frozen=True):
    content: tuple[msgspec.Raw, ...]
    usage: msgspec.Raw = msgspec.Raw(b"null")
    stop_reason: str | None = None
    stop_sequence: str | None = None


_object = msgspec.json.Decoder(_Fields)
_input = msgspec.json.Decoder(_Fields | None)
_message = msgspec.json.Decoder(_Message)


def repair_message(
    body: bytes,
    *,
    model: str,
    message_id: str,
    prefill: str | None = None,
    thought: str = "",
    omit_thinking: bool = False,
    silent: bool = False,
    keep_ids: bool = False,
    stop: tuple[str, ...] | None = None,
) -> tuple[bytes, Usage, str]:
    """Return the message, what it used and why it stopped.

    `prefill`, `thought`: the text and the thinking that the client began for the assistant (see `translate.echo`). For
    the other parameters see NativeStream.

    Raises:
        msgspec.DecodeError: it is not a message, or says something that no message can.

    """
    message = read(_message, check_utf8(body))
    tally = Tally()
    tally.add(message.usage)
    content: list[object] = []
    if silent:
        tally.silence()
        reason, sequence = "max_tokens", None
    else:
        ids = ToolIds(message_id, keep=keep_ids)
        content, calls = _blocks(message.content, ids, (prefill or "", thought), omit_thinking=omit_thinking)
        sequence = asked_for(message.stop_sequence, stop)
        # Arguments that were cut come as an empty object; without a stop sequence that is a call that needs none.
        whole = sequence is None or not calls or calls[-1]["input"] != {}
        try:
            reason, sequence = stop_reason(message.stop_reason or "", sequence, tools=bool(calls), whole=whole)
        except BrokenAnswerError as error:
            raise msgspec.ValidationError(str(error)) from None
    ours = render.message(
        model=model, message_id=message_id, usage=tally.at_end(), stop_reason=reason, stop_sequence=sequence
    )
    ours["content"] = content
    rest = {name: value for name, value in read(_object, body).items() if name not in ours}
    return msgspec.json.encode({**ours, **rest}), tally.for_record(), reason


def _blocks(
    raw_blocks: tuple[msgspec.Raw, ...], ids: ToolIds, begun: tuple[str, str], *, omit_thinking: bool
) -> tuple[list[object], list[dict[str, object]]]:
    """Return the blocks of the client's message, and the tool calls among them. `begun`: prefill and thought.

    Thinking comes first, unless a signature says that its place is meant. Blocks without content are left out: the
    hosted API would refuse them when they come back. Unknown kinds stay as they are.
    """
    thinking: list[object] = []
    others: list[object] = []
    calls: list[dict[str, object]] = []
    prefill, thought = begun
    for raw in raw_blocks:
        block = read(block_decoder, raw)
        match block.type:
            case "text":
                text = text_after(block.text or "", prefill)
                prefill = ""
                if text:
                    fields = read(_object, raw)
                    others.append({**fields, "text": text})
            case "thinking":
                said = thinking_after(block.thinking or "", thought)
                thought = ""
                if said or block.signature:
                    (others if block.signature else thinking).append(_thinking(said, block, omit=omit_thinking))
            case "tool_use":
                calls.append(_call(block, ids))
                others.append(calls[-1])
            case _:
                others.append(raw)
    return thinking + others, calls


def _thinking(text: str, block: Block, *, omit: bool) -> dict[str, str]:
    sealed = block.signature or (signature.seal(text) if omit else "")
    return {"type": "thinking", "thinking": "" if omit else text, "signature": sealed}


def _call(block: Block, ids: ToolIds) -> dict[str, object]:
    if not block.name:
        raise msgspec.ValidationError("a tool call without a name")
    arguments = block.input if read(_input, block.input) else {}
    return {"type": "tool_use", "id": ids.take(block.id), "name": block.name, "input": arguments}
