import pytest

from benchmarks.replay import made_up
from benchmarks.replay.deal import ONE_WITH_AGENTS_IN, SESSIONS_EACH, deal
from benchmarks.replay.trace import agents, turns

SESSIONS = made_up.sessions(seed=3, count=20)


def test_the_same_seed_deals_the_same() -> None:
    assert deal(SESSIONS, 5, 1) == deal(SESSIONS, 5, 1) != deal(SESSIONS, 5, 2)


def test_every_user_has_a_full_hand_of_conversations_of_its_own() -> None:
    hands = deal(SESSIONS, 5, 1)
    parts = [part for hand in hands for part in hand]
    assert [SESSIONS_EACH] * 5 == [len(hand) for hand in hands]
    assert len(parts) == len({part.session_id for part in parts}) == len({part.copy for part in parts})


def test_only_the_first_session_is_joined_and_in_its_first_half() -> None:
    hands = deal(SESSIONS, 20, 1)
    first = [hand[0] for hand in hands]
    assert {0} == {part.from_turn for hand in hands for part in hand[1:]}
    assert any(part.from_turn for part in first)
    assert all(part.from_turn <= turns(part.session) // 2 for part in first)


def test_sub_agents_are_not_joined_too_late_for() -> None:
    for hand in deal([one for one in SESSIONS if agents(one)], 20, 1):
        part = hand[0]
        place = next(at for at, entry in enumerate(part.session.requests) if entry.requests)
        assert part.from_turn <= place


def test_sessions_with_sub_agents_are_dealt_at_least_now_and_then() -> None:
    few = [one for one in SESSIONS if not agents(one)] + [one for one in SESSIONS if agents(one)][:1]
    parts = [part for hand in deal(few, 10, 1) for part in hand]
    assert len(parts) // ONE_WITH_AGENTS_IN == sum(agents(part.session) > 0 for part in parts)


def test_nothing_to_deal_is_said() -> None:
    with pytest.raises(ValueError, match="no session"):
        deal([], 1, 1)
