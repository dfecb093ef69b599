"""A plain completion for a client of the OpenAI API, from a server that speaks it; the same rules as in `chat_mend`."""

import msgspec

from router.translate.answer import Usage
from router.translate.chat_forced import ForcedChat, is_object
from router.translate.chat_mend import CUT, call_id
from router.translate.counts import Counts
from router.translate.stops import GAVE_UP, finish_word, stop_reason
from router.wire.openai import Choice, FunctionPart, arguments_text, completion_decoder
from router.wire.reading import check_utf8, read

_Raws = dict[str, msgspec.Raw]
_object = msgspec.json.Decoder(_Raws)
_objects = msgspec.json.Decoder(list[_Raws])
_function = msgspec.json.Decoder(FunctionPart)
_EMPTY = frozenset((b"null", b'""'))


def repair_completion(
    body: bytes,
    *,
    model: str,
    completion_id: str = "chatcmpl-0",
    created_s: int = 0,
    forced: ForcedChat | None = None,
) -> tuple[bytes, Usage, str]:
    """Name the model as the client does; returns the answer, its usage, and its stop reason in Messages words.

    `completion_id`, `created_s`: for a server that says none. `forced`: the call that the text is to be.

    Raises:
        msgspec.DecodeError: it is no completion, holds no finished answer, or none of the call that it was to be.

    """
    check_utf8(body)
    completion = read(completion_decoder, body)
    if not completion.choices or any(_gave_up(choice) for choice in completion.choices):
        raise msgspec.DecodeError("no finished answer in it")
    counts = Counts()
    counts.take(completion)
    fields = read(_object, body)
    fields["model"] = _raw(model)
    fields["object"] = _raw("chat.completion")
    _fill(fields, "id", completion_id)
    _fill(fields, "created", created_s)
    raws, told = read(_objects, fields["choices"]), []
    for at, (raw, choice) in enumerate(zip(raws, completion.choices, strict=True)):
        raw["index"] = _raw(choice.index or at)
        told.append(_mend(raw, choice, at, completion_id, forced))
    fields["choices"] = _raw(raws)
    return msgspec.json.encode(fields), counts.for_record(), told[0]


def _gave_up(choice: Choice) -> bool:
    return not choice.finish_reason or choice.finish_reason in GAVE_UP


def _mend(raw: _Raws, choice: Choice, at: int, completion_id: str, forced: ForcedChat | None) -> str:
    """Mend one answer in its place, and return why it ended."""
    message, said = read(_object, raw["message"]), choice.message
    cut = choice.finish_reason in CUT
    _fill(message, "role", "assistant")
    if forced is not None:
        calls = _forced_calls(said.content or "", forced, cut=cut)
    else:
        calls = read(_objects, message["tool_calls"]) if said.tool_calls else []
    if forced is not None or "content" not in message:
        message["content"] = _raw(None)
    ids: set[bytes] = set()
    for place, call in enumerate(calls):
        _mend_call(call, call_id(completion_id, at, place), ids, cut=cut)
    if calls:
        message["tool_calls"] = _raw(calls)
    else:
        message.pop("tool_calls", None)
    raw["message"] = _raw(message)
    called = bool(calls) or said.function_call is not None
    finish = finish_word(choice.finish_reason or "", calls=called)
    if forced is not None and finish == "stop" and not forced.may_break:
        finish = "tool_calls"
    raw["finish_reason"] = _raw(finish)
    return stop_reason(finish, tools=called)[0]


def _forced_calls(text: str, forced: ForcedChat, *, cut: bool) -> list[_Raws]:
    called = forced.call(text)
    whole = called is not None and is_object(called[1])
    if not whole and not cut and not forced.may_break:
        raise msgspec.DecodeError("no call in it, and it had to be one")
    if called is None or not called[1]:
        return []
    return [{"function": _raw({"name": called[0], "arguments": called[1]})}]


def _mend_call(call: _Raws, ours: str, ids: set[bytes], *, cut: bool) -> None:
    """Mend a call in its place; one that is of no function is left alone."""
    if "function" not in call:
        return
    _fill(call, "type", "function")
    _fill(call, "id", ours)
    if bytes(call["id"]) in ids:
        call["id"] = _raw(ours)
    ids.add(bytes(call["id"]))
    function = read(_object, call["function"])
    arguments = arguments_text(read(_function, call["function"]))
    if not arguments.strip() and not cut:
        arguments = "{}"
    function["arguments"] = _raw(arguments)
    call["function"] = _raw(function)


def _fill(fields: _Raws, name: str, value: object) -> None:
    """Put a value where a server has none."""
    if bytes(fields.get(name, b"null")) in _EMPTY:
        fields[name] = _raw(value)


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
