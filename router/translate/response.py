"""A plain chat completion, told as a plain Messages answer: the same rules as `stream`, for an answer that is whole."""

import msgspec

from router.translate import render
from router.translate.answer import Usage
from router.translate.calls import Calls
from router.translate.counts import Counts
from router.translate.echo import text_after, thinking_after
from router.translate.forced import ANY, as_call, chosen_call
from router.translate.stops import GAVE_UP, stop_reason
from router.wire.openai import Delta, FunctionPart, ToolCallPart, completion_decoder, first_of, stop_word
from router.wire.reading import read
from router.wire.signature import seal

Block = dict[str, object]


def message_of(
    body: bytes,
    *,
    model: str,
    message_id: str,
    prefill: str | None = None,
    thought: str = "",
    omit_thinking: bool = False,
    silent: bool = False,
    stop: tuple[str, ...] = (),
    forced: str = "",
    single: bool = False,
) -> tuple[bytes, Usage, str]:
    """Return the message, its usage and its stop reason.

    `prefill`, `thought`: the text and the thinking that the answer was to go on from, which llama-server repeats (see
    `translate.echo`). The other arguments are those of `stream.ChatToMessages`. Of several choices the first is taken.

    Raises:
        msgspec.DecodeError: it is no completion, not a finished one, or holds a tool call that cannot be run. One that
            its length or a stop word has cut is let through with an empty input: `stop_reason` says so.

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
        cut = why == "length" or word in stop
        said = _as_forced(choice.message, forced, cut=cut, natural=why == "stop" and not stop)
        calls, runs = _calls(said, message_id, single=single, cut=cut)
        content = _content(said, (prefill or "", thought), omit_thinking=omit_thinking) + calls
        reason, word = stop_reason(why, tools=runs, refused=bool(said.refusal), word=word, stop=stop)
    whole = render.message(
        model=model,
        message_id=message_id,
        usage=counts.at_end(0, silent),
        content=tuple(content),
        stop_reason=reason,
        stop_sequence=word,
    )
    return msgspec.json.encode(whole), counts.for_record(), reason


def unsaid(name: str) -> Delta:
    """Make the call of a forced tool that was cut before its first argument: the hosted API shows it all the same."""
    return Delta(tool_calls=(ToolCallPart(index=0, function=FunctionPart(name=name)),))


def _as_forced(message: Delta, forced: str, *, cut: bool, natural: bool) -> Delta:
    """Take the text for the call that it has to be. `natural`: the answer came to its end, and by no stop word."""
    if not forced:
        return message
    if forced != ANY:
        called = as_call(message, forced)
        missing = cut and not called.tool_calls
        return msgspec.structs.replace(called, tool_calls=unsaid(forced).tool_calls) if missing else called
    chosen = chosen_call(message.content or "")
    if chosen is None and natural:
        raise msgspec.DecodeError("a tool call that cannot be read")
    return msgspec.structs.replace(message, content=None, tool_calls=chosen.tool_calls if chosen else None)


def _content(said: Delta, begun: tuple[str, str], *, omit_thinking: bool) -> list[Block]:
    """Return the blocks before the calls. `begun`: prefill and thought."""
    prefill, thought = begun
    blocks: list[Block] = []
    if thinking := thinking_after(said.reasoning_content or said.reasoning or "", thought):
        shown, signature = ("", seal(thinking)) if omit_thinking else (thinking, "")
        blocks.append({"type": "thinking", "thinking": shown, "signature": signature})
    texts = (text_after(said.content or "", prefill), said.refusal)
    return blocks + [{"type": "text", "text": text} for text in texts if text]


def _calls(said: Delta, message_id: str, *, single: bool, cut: bool) -> tuple[list[Block], bool]:
    """Return the blocks of the calls, and whether the last may be run. `single`: the first is all that is looked at.

    Only in an answer that was `cut` may one be unfinished, and what comes after that is left out.
    """
    blocks: list[Block] = []
    whole = False
    calls = Calls(message_id)
    for call, added in calls.whole(said):
        if single and blocks:
            break
        if not call.name:
            if added and not cut:
                raise msgspec.DecodeError("a tool call without a name")
            continue
        call.arguments.add(added)
        is_object = call.arguments.is_object()
        if not is_object and not cut:
            raise msgspec.DecodeError("tool arguments that are no JSON object")
        given = msgspec.Raw(call.arguments.text.strip().encode() if is_object and call.arguments.begun else b"{}")
        blocks.append({"type": "tool_use", "id": calls.client_id(call), "name": call.name, "input": given})
        whole = is_object and (call.arguments.begun or not cut)
        if not is_object:
            break
    return blocks, whole
