from hypothesis import given, settings
from hypothesis import strategies as st

from router.balance.chain import Chain, common
from router.balance.index import STRIDE, Index
from tests.balance.sample import spell

steady = settings(derandomize=True, max_examples=150, deadline=None)

# Few letters in long runs, so that chains begin alike for a while.
_words = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9)), min_size=1, max_size=5).map(
    lambda runs: "".join(letter * count for letter, count in runs)
)
_histories = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.lists(_words, max_size=3)), max_size=8)


@steady
@given(history=_histories, asked=_words)
def test_it_never_says_less_than_an_instance_has_and_hardly_more(
    history: list[tuple[str, list[str]]], asked: str
) -> None:
    index, held, spelt = Index(), dict[str, list[Chain]](), dict[str, Chain]()
    for instance_id, its in history:
        held[instance_id] = [spelt.setdefault(word, spell(word)) for word in its]
        index.hold(instance_id, held[instance_id])
    at_most = index.at_most(spell(asked))
    for instance_id, chains in held.items():
        has = max((common(one, spell(asked)) for one in chains), default=0)
        told = at_most.get(instance_id, min(len(asked), STRIDE - 1))
        assert has <= told <= min(len(asked), has // STRIDE * STRIDE + STRIDE - 1)
    assert set(at_most) <= set(held)


@steady
@given(history=_histories)
def test_what_is_held_no_longer_leaves_nothing_behind(history: list[tuple[str, list[str]]]) -> None:
    index = Index()
    for instance_id, its in history:
        index.hold(instance_id, [spell(word) for word in its])
    for instance_id in "abc":
        index.hold(instance_id, ())
    assert (0, "Index[0 chains of 0 instances]", {}, {}) == (len(index), repr(index), index._holders, index._held)


def test_a_chain_that_is_held_twice_is_noted_once() -> None:
    index, chain = Index(), spell("a" * STRIDE)
    index.hold("x", [chain, chain])
    assert "Index[1 chains of 1 instances]" == repr(index)
    index.hold("x", [])
    assert {} == index.at_most(chain)
    assert not index
