"""How a turn says a reply: in the dialect and the form that was asked for, at the instance's pace."""

from tests.rig.fake_chat import chat_body, chat_frames
from tests.rig.fake_turn import Turn
from tests.rig.fake_wire import Reply, event, message_body, message_frames


async def say(turn: Turn, reply: Reply) -> None:
    """The honest answer in the dialect and the form that the request asks for, at the instance's pace."""
    frames = frames_of(turn, reply)
    if turn.streamed:
        await turn.begin_stream()
        await turn.prefill()
        await say_frames(turn, frames)
        return
    await turn.prefill()
    for _ in range(reply.output_tokens):
        await turn.token()
        turn.fake.note(tokens_predicted=1)
    await turn.json(200, chat_body(reply) if turn.is_chat else message_body(reply))


async def say_frames(turn: Turn, frames: list[bytes]) -> None:
    """Send these and end the stream."""
    await _pace(turn, frames)
    await turn.end_stream()


def frames_of(turn: Turn, reply: Reply) -> list[bytes]:
    if not turn.is_chat:
        return message_frames(reply)
    options = turn.seen.json.get("stream_options")
    usage = isinstance(options, dict) and options.get("include_usage") is True
    return chat_frames(reply, include_usage=usage)


async def say_some(turn: Turn, count: int) -> list[bytes]:
    """Begin the honest stream, send `count` of its frames, and give back the rest."""
    frames = frames_of(turn, turn.reply())
    await turn.begin_stream()
    await turn.prefill()
    await _pace(turn, frames[:count])
    return frames[count:] or [event("message_stop", {"type": "message_stop"})]


async def _pace(turn: Turn, frames: list[bytes]) -> None:
    for frame in frames:
        await turn.token()
        await turn.chunk(frame)
        turn.fake.note(tokens_predicted=1)
