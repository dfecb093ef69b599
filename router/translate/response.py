"""A plain chat completion, told as a plain Messages answer: the same rules as `stream`, for an answer that is whole."""

import msgspec

from router.translate import render
from router.translate.answer import Usage
from router.translate.arguments import Arguments
from router.translate.calls import Calls
from router.translate.counts import Counts
from router.translate.forced import ANY, as_call, chosen_call
from router.translate.stops import GAVE_UP, stop_reason
from router.wire.openai import Delta, completion_decoder, first_of, stop_word
from router.wire.reading import read
from router.wire.signature import seal

Block = dict[str, object]


def message_of(
    body: bytes,
    *,
    model: str,
    message_id: str,
    prefill: str | None = None,
    omit_thinking: bool = False,
    silent: bool = False,
    stop: tuple[str, ...] = (),
    forced: str = "",
    single: bool = False,
) -> tuple[bytes, Usage, str]:
    """Return the message, its usage and its stop reason.

    `prefill`: the text that the answer was to go on from; llama-server repeats it, the hosted API does not. The other
    arguments are those of `stream.ChatToMessages`. Of several choices the first is taken.

    Raises:
        msgspec.DecodeError: it is no completion, not a finished one, or holds a tool call that cannot be run. One that
            its length has cut is let through with an empty input: `stop_reason` says so.

    """
    completion = read(completion_decoder, body)
    choice = first_of(completion.choices)
    if choice is None or not choice.finish_reason or choice.finish_reason in GAVE_UP:
        raise msgspec.DecodeError("a completion without an end")
    why = choice.finish_reason
    counts = Counts()
    counts.take(completion)
    if silent:
        content: list[Block] = []
        reason, word = "max_tokens", None
    else:
        word = stop_word(choice, completion.verbose)
        if forced:
            choice = msgspec.structs.replace(choice, message=_as_forced(choice.message, forced))
        cut = why == "length" or word in stop
        content = _content(choice.message, message_id, prefill, omit_thinking=omit_thinking, cut=cut)
        if single:
            content = _with_one_call(content)
        calls = [block for block in content if block["type"] == "tool_use"]
        whole_call = bool(calls) and not (cut and calls[-1]["input"] == msgspec.Raw(b"{}"))
        reason, word = stop_reason(
            why,
            tools=whole_call,
            refused=bool(choice.message.refusal),
            word=word,
            stop=stop,
        )
    whole = render.message(
        model=model,
        message_id=message_id,
        usage=counts.at_end(0, silent),
        content=tuple(content),
        stop_reason=reason,
        stop_sequence=word,
    )
    return msgspec.json.encode(whole), counts.for_record(), reason


def _as_forced(message: Delta, forced: str) -> Delta:
    if forced != ANY:
        return as_call(message, forced)
    called = chosen_call(message.content or "")
    return msgspec.structs.replace(message, content=None, tool_calls=called.tool_calls if called else None)


def _with_one_call(content: list[Block]) -> list[Block]:
    """Leave out all calls but the first."""
    first = next((block for block in content if block["type"] == "tool_use"), None)
    return [block for block in content if block["type"] != "tool_use" or block is first]


def _content(said: Delta, message_id: str, prefill: str | None, *, omit_thinking: bool, cut: bool) -> list[Block]:
    blocks: list[Block] = []
    if thinking := said.reasoning_content or said.reasoning:
        shown, signature = ("", seal(thinking)) if omit_thinking else (thinking, "")
        blocks.append({"type": "thinking", "thinking": shown, "signature": signature})
    texts = ((said.content or "").removeprefix(prefill or ""), said.refusal)
    blocks += [{"type": "text", "text": text} for text in texts if text]
    return blocks + _calls(said, message_id, cut=cut)


def _calls(said: Delta, message_id: str, *, cut: bool) -> list[Block]:
    blocks: list[Block] = []
    calls = Calls(message_id)
    for call, added in calls.whole(said):
        if not call.name:
            if added and not cut:
                raise msgspec.DecodeError("a tool call without a name")
            continue
        call.arguments.add(added)
        given = _object(call.arguments, cut=cut)
        blocks.append({"type": "tool_use", "id": calls.client_id(call), "name": call.name, "input": given})
    return blocks


def _object(arguments: Arguments, *, cut: bool) -> msgspec.Raw:
    if not arguments.is_object():
        if cut:
            return msgspec.Raw(b"{}")
        raise msgspec.DecodeError("tool arguments that are no JSON object")
    return msgspec.Raw(arguments.text.strip().encode() or b"{}")
