from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.replay import made_up
from benchmarks.replay.filler import Filler
from benchmarks.replay.strand import MAIN_HEAD_TOKENS, Size, Strand, Turn, main_strand
from router.sim.claude_code import Entry, Runs, Session

FILLER = Filler([f" {chr(97 + a)}{chr(97 + b)}" for a in range(26) for b in range(26)], 8)
HEAD_WORDS = MAIN_HEAD_TOKENS // 64 * 8


def strand_of(*prompts: Runs, out: int = 80, think_s: float = 4.0, tools: int = 128) -> Strand:
    """A strand whose head is two blocks of tools and, but for the tools, nothing."""
    entries = tuple(
        Entry(type="n", in_tokens=64 * sum(count for _, count in runs), out=out, think_time=think_s, runs=runs)
        for runs in prompts
    )
    session = Session(id="s", block_size=64, tool_tokens=tools, system_tokens=0, requests=entries)
    return main_strand(session, 1, Size())


def printed(strand: Strand, turn: Turn) -> list[str]:
    """The prompt as a chat template prints it: words, and marks where messages begin."""
    spoken = strand.speak(turn, FILLER)
    out = "".join(spoken.system).split()
    for at, text in enumerate(spoken.said):
        out += ["<assistant>" if at % 2 else "<user>", *text.split()]
    return out


def alike(one: list[str], other: list[str]) -> int:
    """Words in common from the beginning, marks not counted."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += not a.startswith("<")
    return count


def test_the_first_turn_is_the_head_and_what_the_user_says() -> None:
    strand = strand_of(((1, 6),))
    (turn,) = strand.turns()
    spoken = strand.speak(turn, FILLER)
    assert (HEAD_WORDS, HEAD_WORDS + 4 * 8) == (turn.known_words, spoken.words)
    assert [4 * 8] == [len(text.split()) for text in spoken.said]


def test_the_head_is_the_same_in_every_session() -> None:
    one, other = (main_strand(session, copy, Size()) for copy, session in enumerate(made_up.sessions(1, 2)))
    spoken = [strand.speak(next(strand.turns()), FILLER) for strand in (one, other)]
    assert spoken[0].system[0] == spoken[1].system[0]
    assert spoken[0].said != spoken[1].said


def test_the_same_session_again_is_another_conversation() -> None:
    session = made_up.sessions(1, 1)[0]
    one, other = (main_strand(session, copy, Size()) for copy in (1, 2))
    texts = [printed(strand, next(strand.turns())) for strand in (one, other)]
    assert HEAD_WORDS - 8 <= alike(*texts) < HEAD_WORDS + 4


def test_a_turn_adds_the_answer_and_what_was_said_to_it() -> None:
    strand = strand_of(((1, 6),), ((1, 10),), out=80)
    first, second = strand.turns()
    spoken = strand.speak(second, FILLER)
    assert [32, 10, 22] == [len(text.split()) for text in spoken.said]
    assert printed(strand, first) == printed(strand, second)[: len(printed(strand, first))]
    assert HEAD_WORDS + 32 == second.known_words


def test_a_rewritten_tail_leaves_the_messages_before_it_as_they_were() -> None:
    strand = strand_of(((1, 6),), ((1, 10),), ((1, 8), (50, 4)))
    _, second, third = strand.turns()
    assert HEAD_WORDS + 6 * 8 == third.known_words == alike(printed(strand, second), printed(strand, third))
    assert 1 == len(third.ends) % 2


def test_another_kind_of_call_between_the_turns_does_not_disturb_them() -> None:
    strand = strand_of(((1, 6),), ((900, 3),), ((1, 10),))
    first, title, third = strand.turns()
    assert 0 == title.known_words
    assert printed(strand, first) == printed(strand, third)[: len(printed(strand, first))]


def test_times_and_lengths_are_divided_and_capped() -> None:
    (turn,) = strand_of(((1, 6),), out=80_000, think_s=300.0).turns()
    assert (1.25, 96) == (turn.think_s, turn.answer_tokens)


def test_a_sub_agent_has_its_own_text_and_begins_with_the_turn_after_it() -> None:
    session = made_up.sessions(1, 1)[0]
    place = next(at for at, entry in enumerate(session.requests) if entry.requests)
    turns = list(main_strand(session, 1, Size()).turns())
    assert [place] == [turn.number for turn in turns if turn.beside]
    (agent,) = turns[place].beside
    assert "agent-1" == agent.agent
    texts = [printed(agent, turn) for turn in agent.turns()]
    assert texts[0][0] != printed(main_strand(session, 1, Size()), turns[0])[0]
    assert all(alike(one, other) == len([word for word in one if word[0] != "<"]) for one, other in pairwise(texts[:2]))


runs = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 6)), max_size=4)


@given(st.lists(st.tuples(runs, st.integers(0, 3000)), min_size=1, max_size=6), st.sampled_from([0, 128, 640]))
def test_any_prompts_make_messages_that_keep_what_they_have_in_common(
    prompts: list[tuple[list[tuple[int, int]], int]], tools: int
) -> None:
    entries = tuple(Entry(type="n", out=out, runs=((1, 3), *tail)) for tail, out in prompts)
    session = Session(id="s", block_size=64, tool_tokens=tools, system_tokens=64, requests=entries)
    strand = main_strand(session, 1, Size())
    turns = list(strand.turns())
    for turn in turns:
        spoken = strand.speak(turn, FILLER)
        assert 1 == len(turn.ends) % 2
        assert all(spoken.said)
        assert turn.ends[-1] == 8 * len(turn.blocks)
        assert spoken.words == len([word for word in printed(strand, turn) if word[0] != "<"])
    for before, after in pairwise(turns):
        if before.head == after.head and after.ends[-1] > before.ends[-1]:
            # The last word may go to the user, who must say something.
            assert after.known_words - 1 <= alike(printed(strand, before), printed(strand, after))


@pytest.mark.parametrize("scale", [1, 4, 8])
def test_a_prompt_has_as_many_words_as_the_trace_has_tokens_by_the_scale(scale: int) -> None:
    strand = msgspec.structs.replace(strand_of(((1, 400),), tools=0), size=Size(scale=scale))
    (turn,) = strand.turns()
    filler = Filler([" a"], 64 // scale)
    assert 400 * 64 // scale == strand.speak(turn, filler).words
