import msgspec
import pytest

from router.sim import claude_code
from router.sim.dice import Dice
from router.sim.prompt import Prompt, common
from router.sim.talk import Talk
from tests.sim import sample


def parsed(*requests: dict[str, object], tools: int = 1024, system: int = 512) -> claude_code.Session:
    session = {"id": "a", "block_size": 64, "tool_tokens": tools, "system_tokens": system, "requests": list(requests)}
    (read,) = claude_code.read([msgspec.json.encode(session)])
    return read


def request(runs: list[list[int]], **more: object) -> dict[str, object]:
    tokens = 64 * sum(count for _, count in runs) + 7
    return {"type": "n", "in": tokens, "out": 9, "think_time": 3.0, "runs": runs, **more}


def prompts(talk: Talk) -> list[Prompt]:
    return [step.prompt() for step in talk.steps]


def test_turns_of_a_session_are_alike_as_far_as_their_runs() -> None:
    first, second, third = prompts(
        claude_code.talk(parsed(request([[1, 40]]), request([[1, 50]]), request([[1, 45], [60, 9]])), 1)
    )
    assert 40 == common(first.ids, second.ids)
    assert 45 == common(second.ids, third.ids)
    assert (64 * 54 + 7, 54, 64) == (third.tokens, len(third.ids), third.unit_tokens)


def test_sessions_with_tools_and_system_of_the_same_size_share_both_but_for_a_quarter_of_the_system() -> None:
    one, other = (claude_code.talk(parsed(request([[1, 40]])), copy) for copy in (1, 2))
    assert (1024 + 384) // 64 == common(prompts(one)[0].ids, prompts(other)[0].ids)
    assert one.session != other.session


def test_sessions_with_tools_alone_of_the_same_size_share_those() -> None:
    one = claude_code.talk(parsed(request([[1, 40]])), 1)
    other = claude_code.talk(parsed(request([[1, 40]]), system=1024), 2)
    assert 1024 // 64 == common(prompts(one)[0].ids, prompts(other)[0].ids)


def test_sessions_with_other_tools_share_nothing() -> None:
    one = claude_code.talk(parsed(request([[1, 40]])), 1)
    other = claude_code.talk(parsed(request([[1, 40]]), tools=2048), 2)
    assert 0 == common(prompts(one)[0].ids, prompts(other)[0].ids)


def test_a_prompt_that_parts_within_the_head_shares_the_head_up_to_there() -> None:
    first, cut = prompts(claude_code.talk(parsed(request([[1, 40]]), request([[1, 10], [90, 30]])), 1))
    assert 10 == common(first.ids, cut.ids)
    (other,) = prompts(claude_code.talk(parsed(request([[1, 40]])), 2))
    assert 10 == common(cut.ids, other.ids)


def test_a_prompt_that_begins_in_another_way_shares_nothing() -> None:
    first, strange = prompts(claude_code.talk(parsed(request([[1, 40]]), request([[500, 30]])), 1))
    assert 0 == common(first.ids, strange.ids)


def test_a_pause_is_at_most_a_minute() -> None:
    talk = claude_code.talk(parsed(request([[1, 2]], think_time=4000.0), request([[1, 3]])), 1)
    assert [60.0, 3.0] == [step.think_s for step in talk.steps]


def test_a_sub_agent_runs_beside_the_turn_that_comes_after_it_with_a_head_of_its_own() -> None:
    agent = {"type": "subagent", "tool_tokens": 640, "system_tokens": 0, "requests": [request([[900, 20]])]}
    talk = claude_code.talk(parsed(request([[1, 40]]), agent, request([[1, 44]])), 1)
    assert [0, 1] == [len(step.beside) for step in talk.steps]
    (beside,) = talk.steps[1].beside
    assert beside.session != talk.session
    assert 0 == common(prompts(beside)[0].ids, prompts(talk)[0].ids)
    (again,) = claude_code.talk(parsed(request([[1, 40]]), agent, request([[1, 44]])), 2).steps[1].beside
    assert 10 == common(prompts(beside)[0].ids, prompts(again)[0].ids)


def test_sessions_with_a_prompt_that_is_too_long_or_with_none_are_left_out() -> None:
    lines = sample.sessions(2, turns=2)
    long = sample.sessions(1, turns=2, first=128_000)
    empty = [msgspec.json.encode({"id": "e", "block_size": 64, "tool_tokens": 0, "system_tokens": 0, "requests": []})]
    assert ["s0", "s1"] == [session.id for session in claude_code.read([*lines, *long, *empty])]


def test_a_line_that_is_no_session_is_named() -> None:
    with pytest.raises(ValueError, match=r"line 2: .*missing required field"):
        claude_code.read([*sample.sessions(1), b'{"id": "x"}'])


def test_users_come_within_a_minute_and_the_same_seed_deals_the_same_sessions() -> None:
    sessions = claude_code.read(sample.sessions(5))
    one, same, other = (claude_code.users(sessions, 7, Dice(seed)).first() for seed in (1, 1, 2))
    assert 7 == len(one) == len({ask.session for ask in one})
    assert all(0.0 <= ask.arrived_s < 60.0 + 60.0 for ask in one)
    assert [ask.arrived_s for ask in one] == [ask.arrived_s for ask in same]
    assert [ask.arrived_s for ask in one] != [ask.arrived_s for ask in other]


def test_a_session_that_is_dealt_again_is_another_conversation() -> None:
    talks = claude_code.users(claude_code.read(sample.sessions(1, turns=1)), 1, Dice(1))
    (first,) = talks.first()
    (again,) = talks.after(first.number, 100.0)
    assert first.session != again.session
    assert (1024 + 384) // 64 == common(first.prompt.ids, again.prompt.ids)
