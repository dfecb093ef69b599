"""By the rules of llama-server's source: get_available_slot, prompt_save, prompt_load, cache_idle_slots."""

from router.sim.kv import Held, Kv
from tests.sim.sample import prompt


def told(kv: Kv) -> list[int]:
    return [slot.held.tokens if slot.held else 0 for slot in kv.slots]


def serve(kv: Kv, key: int, tokens: int, now_s: float, *, output: int = 0, head: int = 0) -> tuple[int, int, int]:
    """Start a call and finish it at once."""
    slot, cached, moved = kv.start(prompt(key, tokens, head=head))
    kv.finish(slot, output, now_s)
    return slot, cached, moved


def test_a_conversation_finds_its_slot_and_all_but_one_token_at_most() -> None:
    kv = Kv(slots=2, ram_tokens=0)
    slot, cached, _ = serve(kv, 1, 1280, 1.0)
    assert 0 == cached
    assert (slot, 1279, 0) == serve(kv, 1, 1280, 2.0)
    assert (slot, 1280, 0) == serve(kv, 1, 2560, 3.0)


def test_an_answer_is_warm_when_the_conversation_goes_on() -> None:
    kv = Kv(slots=1, ram_tokens=0)
    serve(kv, 1, 1290, 1.0, output=100)
    assert [1390] == told(kv)
    assert 1390 == serve(kv, 1, 2560, 2.0)[1]


def test_an_answer_is_not_warm_for_another_conversation() -> None:
    kv = Kv(slots=1, ram_tokens=0)
    serve(kv, 1, 1290, 1.0, output=100, head=640)
    assert 640 == serve(kv, 2, 2560, 2.0, head=640)[1]


def test_the_slot_that_is_most_alike_is_taken_and_the_lowest_of_equals() -> None:
    kv = Kv(slots=3, ram_tokens=0)
    first = kv.start(prompt(1, 1280, head=640))[0]
    second = kv.start(prompt(2, 2560, head=1280))[0]
    third = kv.start(prompt(3, 1280, head=640))[0]
    for slot in (first, second, third):
        kv.finish(slot, 0, 1.0)
    assert {0, 1, 2} == {first, second, third}
    assert second == kv.start(prompt(4, 2560, head=1280))[0]
    kv.finish(second, 0, 2.0)
    assert min(first, third) == kv.start(prompt(5, 640 + 64, head=640))[0]


def test_a_likeness_of_a_tenth_or_less_is_none_and_the_longest_unused_slot_is_taken() -> None:
    kv = Kv(slots=2, ram_tokens=0)
    old = serve(kv, 1, 640, 1.0, head=64)[0]
    new = serve(kv, 2, 640, 2.0)[0]
    assert old != new
    assert (old, 64, 0) == kv.start(prompt(3, 640, head=64))  # by age; its head is warm all the same
    kv.finish(old, 0, 3.0)
    assert new == kv.start(prompt(4, 704, head=64))[0]  # 64 of 704 are less than a tenth


def test_a_busy_slot_is_not_seen() -> None:
    kv = Kv(slots=2, ram_tokens=0)
    kv.start(prompt(1, 1280))
    assert 0 == kv.start(prompt(1, 2560))[1]


def test_a_tail_is_overwritten_unsaved_when_half_of_the_slot_or_more_is_kept() -> None:
    kv = Kv(slots=1, ram_tokens=100_000)
    serve(kv, 1, 1280, 1.0, head=640)
    assert (0, 640, 0) == serve(kv, 2, 1920, 2.0, head=640)
    assert [] == kv.ram
    assert (0, 640, 1920) == serve(kv, 1, 1280, 3.0, head=640)  # the other way round a third is kept: it is saved
    assert [1920] == [held.tokens for held in kv.ram]


def test_what_was_saved_is_loaded_again_and_taken_out() -> None:
    kv = Kv(slots=1, ram_tokens=100_000)
    serve(kv, 1, 6400, 1.0)
    serve(kv, 2, 3200, 2.0)
    assert [6400] == [held.tokens for held in kv.ram]
    assert (0, 6400, 6400 + 3200) == serve(kv, 1, 6464, 3.0)
    assert [3200] == [held.tokens for held in kv.ram]


def test_an_entry_that_would_be_used_by_less_than_a_quarter_stays() -> None:
    kv = Kv(slots=1, ram_tokens=100_000)
    serve(kv, 1, 64_000, 1.0, head=15_936)
    serve(kv, 2, 3200, 2.0)
    assert (0, 0, 3200) == serve(kv, 3, 16_000, 3.0, head=15_936)
    kv = Kv(slots=1, ram_tokens=100_000)
    serve(kv, 1, 64_000, 1.0, head=16_000)
    serve(kv, 2, 3200, 2.0)
    assert (0, 16_000, 67_200) == serve(kv, 3, 16_064, 3.0, head=16_000)  # another one's, gone for its owner
    assert [3200] == [held.tokens for held in kv.ram]


def test_the_oldest_entry_makes_room_even_for_a_load_that_would_have_wanted_it() -> None:
    kv = Kv(slots=1, ram_tokens=10_000)
    serve(kv, 1, 6400, 1.0)
    serve(kv, 2, 6400, 2.0)
    assert 0 == serve(kv, 1, 6464, 3.0)[1]  # saving 2 has pushed 1 out before it was looked for
    assert [6400] == [held.tokens for held in kv.ram]


def test_what_does_not_fit_at_all_is_not_saved_and_pushes_nothing_out() -> None:
    kv = Kv(slots=1, ram_tokens=5000)
    serve(kv, 1, 3200, 1.0)
    serve(kv, 2, 6400, 2.0)
    serve(kv, 3, 640, 3.0)
    assert [3200] == [held.tokens for held in kv.ram]


def test_an_entry_that_is_the_beginning_of_a_new_one_is_dropped() -> None:
    kv = Kv(slots=2, ram_tokens=100_000)
    serve(kv, 1, 1280, 1.0)
    serve(kv, 2, 640, 2.0)  # publishes 1
    serve(kv, 1, 2560, 3.0)
    serve(kv, 2, 640, 4.0)  # publishes 1 again, longer
    assert [640, 2560] == sorted(held.tokens for held in kv.ram)


def test_idle_slots_are_copied_when_a_task_starts_and_nothing_is_copied_twice() -> None:
    kv = Kv(slots=3, ram_tokens=100_000)
    serve(kv, 1, 1280, 1.0)
    assert 1280 == serve(kv, 2, 640, 2.0)[2]
    assert 640 == serve(kv, 3, 320, 3.0)[2]
    assert [0, 320, 640, 1280] == sorted([*told(kv), 0])


def test_unified_kv_moves_idle_slots_to_ram() -> None:
    kv = Kv(slots=2, ram_tokens=100_000, unified=True)
    serve(kv, 1, 1280, 1.0)
    serve(kv, 2, 640, 2.0)
    assert [0, 640] == sorted(told(kv))
    slot, cached, moved = kv.start(prompt(1, 1344))
    assert (1280, 1280 + 640) == (cached, moved)
    assert [0, 1344] == sorted(told(kv))
    assert slot == told(kv).index(1344)


def test_without_a_ram_cache_unified_slots_keep_what_they_have() -> None:
    kv = Kv(slots=2, ram_tokens=0, unified=True)
    serve(kv, 1, 1280, 1.0)
    serve(kv, 2, 640, 2.0)
    assert [640, 1280] == sorted(told(kv))


def test_a_held_sequence_tells_how_much_of_a_prompt_it_has() -> None:
    held = Held(prompt(1, 1290), 1400)
    assert 1290 == held.shared(prompt(1, 1290))  # an answer to the same prompt may be another one
    assert 1400 == held.shared(prompt(1, 1600))
    assert 1344 == held.shared(prompt(1, 1344))
    assert 640 == held.shared(prompt(1, 640))
    assert 0 == held.shared(prompt(2, 1600))
