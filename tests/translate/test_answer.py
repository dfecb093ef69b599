"""The contract of `AnswerStream`, held against each kind of stream that there is."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.translate.answer import AnswerStream, Usage
from router.translate.chat_repair import ChatStream
from router.translate.chat_stream import MessagesToChat
from router.translate.passing import PassStream
from router.translate.repair import NativeStream
from router.translate.stream import ChatToMessages
from router.wire.sse import EventTooLarge
from tests.rig import fake_chat
from tests.rig.fake_wire import Reply, message_frames

steady = settings(derandomize=True, max_examples=100, deadline=None)
REPLY = Reply(id="x", model="theirs", thinking=("t",), text=("a", "b"), prompt_tokens=7, cached_tokens=3)
NATIVE = b"".join(message_frames(REPLY))
CHAT = b"".join(fake_chat.chat_frames(REPLY, include_usage=True))
Make = Callable[[], AnswerStream]

# Each kind, and a whole answer as it gets it.
KINDS: dict[str, tuple[Make, bytes]] = {
    "native": (lambda: NativeStream(model="m", instance_id="one", message_id="msg_1"), NATIVE),
    "chat to messages": (lambda: ChatToMessages(model="m", instance_id="one", message_id="msg_1"), CHAT),
    "chat": (lambda: ChatStream(model="m", instance_id="one", usage_asked=False), CHAT),
    "messages to chat": (
        lambda: MessagesToChat(model="m", instance_id="one", completion_id="chatcmpl-1", created_s=1, usage_asked=True),
        NATIVE,
    ),
    "passed": (lambda: PassStream(model="m", instance_id="one"), CHAT),
}
each = pytest.mark.parametrize(("make", "raw"), KINDS.values(), ids=KINDS)


@each
def test_before_anything_has_come_nothing_is_known(make: Make, raw: bytes) -> None:
    made = make()
    assert (made.committed, made.ended, made.error, made.events, made.usage, made.stop_reason) == (
        False, False, None, 0, Usage(), "",
    )  # fmt: skip


@each
def test_a_whole_answer_is_committed_ended_and_counted(make: Make, raw: bytes) -> None:
    made = make()
    assert made.feed(raw) + made.finish()
    assert (made.committed, made.ended, made.error) == (True, True, None)
    assert made.events >= 3
    assert made.usage.output_tokens == 3


@each
def test_what_comes_after_the_end_is_ignored(make: Make, raw: bytes) -> None:
    made = make()
    made.feed(raw)
    made.finish()
    events = made.events
    assert made.feed(raw) == b""
    assert (made.ended, made.events) == (True, events)


@each
def test_nothing_at_all_is_no_answer(make: Make, raw: bytes) -> None:
    made = make()
    assert made.finish() == b""
    assert (made.committed, made.ended) == (False, False)


@each
def test_a_cut_is_never_a_clean_end(make: Make, raw: bytes) -> None:
    ends = [at for at in range(len(raw)) if raw[:at].endswith(b"\n\n")]
    for at in ends[: len(ends) // 2]:  # the last ones may be usage and [DONE], which say what was known
        made = make()
        made.feed(raw[:at])
        made.finish()
        assert not made.ended


@each
def test_an_error_is_kept_and_not_said(make: Make, raw: bytes) -> None:
    fault = b'event: error\ndata: {"error":{"code":500,"message":"broke","type":"server_error"}}\n\n'
    made = make()
    assert b"broke" not in made.feed(fault + raw) + made.finish()
    assert (made.error is not None, made.ended) == (True, False)


def as_chunk(event: bytes) -> tuple[bytes, int]:
    """An event in chunked framing, and where it begins in it."""
    head = b"%x\r\n" % len(event)
    return head + event + b"\r\n", len(head)


@each
def test_what_goes_the_short_way_comes_out_as_the_long_way_would_say_it(make: Make, raw: bytes) -> None:
    events = [event + b"\n\n" for event in raw.split(b"\n\n") if event]
    passing, feeding = make(), make()
    for event in events:
        out = passing.through(*as_chunk(event))
        said = feeding.feed(event)
        assert (passing.feed(event) if out is None else out) == (said if out is None else as_chunk(said)[0])
    assert (passing.events, passing.usage, passing.ended) == (feeding.events, feeding.usage, feeding.ended)


@each
@steady
@given(data=st.data())
def test_whatever_comes_it_raises_nothing_else_and_ends_only_what_began(
    make: Make, raw: bytes, data: st.DataObject
) -> None:
    events = [event + b"\n\n" for event in raw.split(b"\n\n") if event]
    made = make()
    try:
        for piece in data.draw(st.lists(st.sampled_from(events) | st.binary(max_size=30), max_size=8)):
            made.feed(piece)
        made.finish()
    except (msgspec.DecodeError, EventTooLarge):
        return
    assert made.committed or not made.ended
    assert not (made.ended and made.error)
