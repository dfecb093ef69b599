"""The users against a small server in the same loop."""

import asyncio
import json
from collections.abc import Callable

from benchmarks.answers import Protocol
from benchmarks.replay import made_up
from benchmarks.replay.deal import Part
from benchmarks.replay.filler import Filler
from benchmarks.replay.rows import CUT, Row
from benchmarks.replay.strand import MAIN_HEAD_TOKENS, Size
from benchmarks.replay.users import Play, Target
from router.sim.claude_code import Entry, Session

FILLER = Filler([f" {chr(97 + a)}{chr(97 + b)}" for a in range(26) for b in range(26)], 8)
HEAD_WORDS = MAIN_HEAD_TOKENS // 64 * 8
ANSWER = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\ndata: [DONE]\n\n'
)
REFUSAL = b"HTTP/1.1 529 Overloaded\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Seen:
    """A request as the server got it."""

    def __init__(self, head: bytes, content: bytes) -> None:
        lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
        self.headers = {name.lower(): value for name, _, value in lines}
        self.turns = [turn["content"] for turn in json.loads(content)["messages"]]


def play(
    part: Part, answers: Callable[[int], bytes | None], *, users: int = 1, enough: int = 3, window_s: float = 20.0
) -> tuple[list[Row], list[Seen]]:
    """Play until `enough` requests have come. `answers`: by the request's number; None keeps it waiting."""

    async def played() -> tuple[list[Row], list[Seen]]:
        seen: list[Seen] = []
        ready = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            seen.append(Seen(head.strip(), await reader.readexactly(length)))
            answer = answers(len(seen) - 1)
            if len(seen) >= enough:
                ready.set()
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            users_ = Play(Target(port=port, protocol=Protocol.CHAT, headers={"X-Key": "k"}), FILLER, Size(scale=8))
            task = asyncio.create_task(users_.run([[part]] * users, warm_s=0.0, window_s=window_s))
            waited = asyncio.create_task(ready.wait())
            await asyncio.wait([task, waited], return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            waited.cancel()
            await asyncio.wait([task, waited])
        return users_.rows, seen

    return asyncio.run(played())


def part_of(*blocks: int, from_turn: int = 0) -> Part:
    entries = tuple(Entry(type="n", out=8, runs=((1, count),)) for count in blocks)
    session = Session(id="s", block_size=64, tool_tokens=128, system_tokens=0, requests=entries)
    return Part(session=session, copy=1, from_turn=from_turn, session_id="id-1")


def test_a_turn_comes_after_the_answer_to_the_one_before() -> None:
    rows, seen = play(part_of(4, 6, 8), lambda _: ANSWER)
    assert [1, 3, 5] == [len(one.turns) - 1 for one in seen]
    assert rows[0].ended_s <= rows[1].began_s
    assert {"id-1"} == {one.headers["x-claude-code-session-id"] for one in seen}
    assert {"k"} == {one.headers["x-key"] for one in seen}


def test_a_row_tells_what_was_heard() -> None:
    (row, *_), _ = play(part_of(4, 6), lambda _: ANSWER, enough=2)
    assert (9, 4, 1, "") == (row.prompt_tokens, row.cached_tokens, row.output_tokens, row.error)
    assert (HEAD_WORDS + 16, HEAD_WORDS) == (row.words, row.known_words)
    assert row.ttft_s is not None
    assert row.ttft_s <= row.total_s


def test_a_turn_that_fails_is_counted_and_tried_again() -> None:
    rows, seen = play(part_of(4, 6), lambda number: ANSWER if number else REFUSAL)
    assert ["status 529", ""] == [row.error for row in rows[:2]]
    assert seen[0].turns == seen[1].turns != seen[2].turns


def test_a_session_is_joined_in_the_middle_where_nobody_has_read_it_yet() -> None:
    (row, *_), (first, *_) = play(part_of(4, 6, 8, from_turn=1), lambda _: ANSWER, enough=1)
    assert (1, HEAD_WORDS, 3) == (row.turn, row.known_words, len(first.turns) - 1)


def test_what_runs_when_the_time_is_up_is_cut_off_and_told() -> None:
    rows, _ = play(part_of(4, 6), lambda _: None, users=2, enough=99, window_s=1.0)
    assert [(CUT, None)] * 2 == [(row.error, row.ttft_s) for row in rows]
    assert all(row.total_s > 0.2 for row in rows)


def test_a_sub_agent_works_beside_its_session_and_says_who_it_is() -> None:
    session = made_up.sessions(seed=1, count=1)[0]
    place = next(at for at, entry in enumerate(session.requests) if entry.requests)
    part = Part(session=session, copy=1, from_turn=place, session_id="id-1")
    # All are kept waiting, so the second comes while the first is under way.
    rows, seen = play(part, lambda _: None, enough=2)
    assert {"", "agent-1"} == {one.headers.get("x-claude-code-agent-id", "") for one in seen} == {r.agent for r in rows}
    assert {"id-1"} == {one.headers["x-claude-code-session-id"] for one in seen}
