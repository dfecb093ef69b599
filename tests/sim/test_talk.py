from functools import partial

from router.sim.talk import Step, Talk, Talks
from tests.sim.sample import prompt


def talk(session: int, *think_s: float, beside: tuple[Talk, ...] = ()) -> Talk:
    """`beside` begins with the second turn."""
    return Talk(
        session=session,
        steps=tuple(
            Step(
                think_s=pause_s,
                prompt=partial(prompt, session, 64 * (turn + 1)),
                output_tokens=5,
                beside=beside if turn == 1 else (),
            )
            for turn, pause_s in enumerate(think_s)
        ),
    )


def test_each_turn_waits_for_the_answer_before_it_and_a_while_more() -> None:
    talks = Talks([(10.0, talk(1, 0.0, 3.0))])
    (first,) = talks.first()
    assert (10.0, 64) == (first.arrived_s, first.prompt.tokens)
    (second,) = talks.after(first.number, 20.0)
    assert (23.0, 128, 1) == (second.arrived_s, second.prompt.tokens, second.session)
    assert [] == talks.after(second.number, 30.0)


def test_a_talk_that_ends_is_followed_by_the_next_one_that_is_dealt() -> None:
    dealt = iter([talk(2, 1.0), talk(3, 0.0)])
    talks = Talks([(0.0, talk(1, 0.0))], deal=lambda: next(dealt))
    (first,) = talks.first()
    (second,) = talks.after(first.number, 5.0)
    assert (2, 6.0) == (second.session, second.arrived_s)
    (third,) = talks.after(second.number, 7.0)
    assert (3, 7.0) == (third.session, third.arrived_s)


def test_a_talk_beside_another_goes_on_by_itself_and_nothing_follows_it() -> None:
    dealt = iter([talk(9, 0.0)])
    talks = Talks([(0.0, talk(1, 0.0, 2.0, beside=(talk(5, 0.0, 1.0),)))], deal=lambda: next(dealt))
    (first,) = talks.first()
    beside, second = talks.after(first.number, 10.0)
    assert [(5, 10.0), (1, 12.0)] == [(beside.session, beside.arrived_s), (second.session, second.arrived_s)]
    (goes_on,) = talks.after(beside.number, 11.0)
    assert (5, 12.0) == (goes_on.session, goes_on.arrived_s)
    assert [] == talks.after(goes_on.number, 13.0)
    (following,) = talks.after(second.number, 14.0)
    assert 9 == following.session


def test_numbers_are_never_given_twice() -> None:
    talks = Talks([(0.0, talk(1, 0.0, 0.0)), (1.0, talk(2, 0.0))])
    first, other = talks.first()
    (second,) = talks.after(first.number, 2.0)
    assert 3 == len({first.number, other.number, second.number})
    assert "2 under way, 3 calls so far" in repr(talks)
