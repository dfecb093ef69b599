"""An explanation is what the call itself would meet, nothing is sent for it, and nothing changes by it."""

import json
import pickle
from typing import Any

import msgspec
import pytest

from router.admit.desk import Desk
from router.balance.cost import Terms
from router.balance.policy import Candidate, Decision, Place, Policy, Refuse, Verdict, Wait, ptx
from router.errors import ModelNotFound, NotSupported, RequestInvalid
from router.fleet.health import Event
from router.relay.chat import passed_call
from router.relay.explain import Explainer, Explanation, Question, Waits
from router.relay.messages import MessagesCall
from router.relay.serving import _about
from router.translate.plan import CHAT_PATH, MESSAGES_PATH
from tests.relay.test_serving import MODEL, Client, Relay, relaying, until
from tests.rig import behave
from tests.rig.start import StartFake
from tests.test_app import NAMES, ask

pytestmark = pytest.mark.anyio
Json = dict[str, Any]
EMBEDDINGS = "/v1/embeddings"
HOSTED: Json = {"dialect": "anthropic", "slots": 2}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
LONG = " ".join(f"word{number}" for number in range(900))


def question(body: Json, path: str = MESSAGES_PATH.decode(), **headers: str) -> Question:
    named = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return Question(path=path, headers=named, body=json.dumps(body).encode())


def explained(
    relay: Relay, body: Json, path: str = MESSAGES_PATH.decode(), decided: Decision | None = None, **headers: str
) -> Explanation:
    """`decided`: what the policy says, whatever is asked; None: what ptx makes of it."""
    corridor = relay.corridor
    choose = ptx(corridor.book) if decided is None else lambda _call, _view, _now_s: decided
    policy: Policy = "ptx"
    explainer = Explainer(corridor, Desk(choose=choose), lambda: policy)
    return explainer.explain(Client(None), question(body, path, **headers))


def one(id_: str, free: int = 1, **more: Any) -> Candidate:
    return Candidate(instance_id=id_, free=free, busy_share=0.5, **more)


def talk(*turns: str, **fields: Any) -> Json:
    roles = ("user", "assistant")
    said = [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]
    return ask(messages=said, **fields)


# ---------------------------------------------------------------- it is what the call meets


async def test_the_call_goes_where_its_explanation_says_and_finds_warm_what_it_says(start_fake: StartFake) -> None:
    fakes = [start_fake(n_ctx=8192) for _ in range(3)]
    async with relaying(*fakes) as relay:
        first = Client(talk(LONG, stream=True))
        assert await relay.call(first) is None
        went = relay.records[0].instance_id
        turn = talk(LONG, "an answer", "go on", stream=True)
        told = explained(relay, turn)
        assert Place(went) == told.decision.verdict
        best = told.decision.placed
        assert best is not None
        assert 900 <= best.hit_tokens < best.prompt_tokens
        assert [0.0, 0.0] == [other.hit_tokens for other in told.decision.ranking[1:]]
        assert await relay.call(Client(turn)) is None
        record = relay.records[1]
        assert (went, round(best.hit_tokens)) == (record.instance_id, record.foreseen and record.foreseen.cached_tokens)
        assert record.cached_tokens is not None
        assert abs(record.cached_tokens - best.hit_tokens) <= 128


async def test_the_header_of_an_answer_tells_of_the_very_decision_that_was_explained(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        told = explained(relay, ask())
        best = told.decision.placed
        assert best is not None
        client = Client(ask())
        assert await relay.call(client) is None
        terms = f"warm={best.hit_tokens:.0f}/{best.prompt_tokens:.0f} total={best.terms.total_s:.3f}s"
        assert f"place; 2 candidates; {terms}" == client.heads["x-router-decision"]
        assert best.instance_id == client.heads["x-router-instance"]


@pytest.mark.parametrize(
    ("decided", "waited", "header"),
    [
        (Decision(Place("one"), (one("one"), one("two"))), False, b"place; 2 candidates"),
        (Decision(Place("one"), (one("one"),)), True, b"place after wait; 1 candidates"),
        (
            Decision(
                Place("two"),
                (
                    one("one", 0, hit_tokens=11_900.4, prompt_tokens=12_375.0),
                    one("two", hit_tokens=0.2, prompt_tokens=12_400.6, terms=Terms(read_s=0.05, moved_s=0.0024)),
                ),
            ),
            True,
            b"place after wait; 2 candidates; warm=0/12401 total=0.052s",
        ),
    ],
)
def test_the_header_names_the_terms_of_the_one_that_was_chosen_where_there_are_any(
    decided: Decision, waited: bool, header: bytes
) -> None:
    class Notes:
        queue_s, way = 0.0, "native"

    class Instance:
        id = "one"

    headers: Any = _about
    assert header == dict(headers(Instance(), Notes(), decided, waited=waited))[b"x-router-decision"]


# ---------------------------------------------------------------- nothing is sent, nothing changes


async def test_nothing_is_sent_nobody_waits_and_nothing_is_counted(start_fake: StartFake) -> None:
    fakes = [start_fake(), start_fake()]
    async with relaying(*fakes) as relay:
        explained(relay, ask())
        relay.fill()
        told = explained(relay, ask(LONG))
        assert Wait("full") == told.decision.verdict
        assert [[], []] == [fake.requests for fake in fakes]
        assert ([], 0, 0) == (relay.records, relay.waiting, len(relay.corridor.calls))
        assert {} == relay.corridor.weights._bytes


async def test_what_placement_knows_stays_as_it_is(start_fake: StartFake) -> None:
    async with relaying(start_fake(n_ctx=8192), start_fake(n_ctx=8192)) as relay:
        assert await relay.call(Client(talk(LONG, stream=True))) is None
        explained(relay, talk(LONG))

        def known() -> bytes:
            kept = {name: it for name, it in vars(relay.corridor.book).items() if name != "_over"}  # kept for 250 ms
            return pickle.dumps(kept)

        before = known()
        for body in (talk(LONG, "a", "go on"), talk("another"), talk(LONG, stream=True, system="else")):
            for session in ("s1", "s2"):
                explained(relay, body, x_claude_code_session_id=session, x_claude_code_context_compacted="1")
        assert before == known()


async def test_asked_twice_it_says_the_same(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        assert explained(relay, ask()) == explained(relay, ask())


async def test_the_headers_of_the_question_tell_the_conversation_and_not_those_of_whoever_asks(
    start_fake: StartFake,
) -> None:
    """Of equals the conversation decides, by rendezvous hash."""
    async with relaying(*[start_fake() for _ in range(4)]) as relay:
        ids = {
            placed.instance_id
            for number in range(24)
            if (placed := explained(relay, ask(), session_id=f"s{number}").decision.placed) is not None
        }
        assert len(ids) > 1
        same = [explained(relay, ask("nonce:n", system=f"{number}"), session_id="s") for number in range(8)]
        assert 1 == len({told.decision.placed.instance_id for told in same if told.decision.placed is not None})


# ---------------------------------------------------------------- how it would wait

RANKING = (one("one", 0, hit_tokens=900.0, prompt_tokens=1000.0), one("two"), one("three"))
FREE = (one("two"), one("one"))


@pytest.mark.parametrize(
    ("verdict", "ranking", "waits"),
    [
        (Place("two"), RANKING, None),
        (Refuse("no_instance"), (), None),
        (Wait("warm", 1.5), RANKING, Waits(reason="warm", for_id="one", at_most_s=1.5, then_id="two")),
        (Wait("guard", 4.0), FREE, Waits(reason="guard", for_id=None, at_most_s=4.0, then_id="two")),
        (Wait("warm", 31.0), RANKING, Waits(reason="warm", for_id="one", at_most_s=30.0, then_id=None)),
        (Wait("full"), RANKING[:1], Waits(reason="full", for_id=None, at_most_s=30.0, then_id=None)),
        (Wait("home"), RANKING, Waits(reason="home", for_id="one", at_most_s=30.0, then_id=None)),
        (Wait("away"), (), Waits(reason="away", for_id=None, at_most_s=30.0, then_id=None)),
    ],
)
async def test_it_says_what_the_call_would_wait_for_how_long_and_where_it_goes_then(
    start_fake: StartFake, verdict: Verdict, ranking: tuple[Candidate, ...], waits: Waits | None
) -> None:
    async with relaying(start_fake()) as relay:
        decided = Decision(verdict, ranking)
        told = explained(relay, ask(), decided=decided)
        assert (waits, decided) == (told.waits, told.decision)


async def test_those_that_wait_already_are_counted(start_fake: StartFake) -> None:
    async with relaying(start_fake()) as relay:
        relay.fill()
        clients = [Client(ask()) for _ in range(3)]
        calls = [relay.call(client) for client in clients]
        await until(lambda: relay.waiting == 3)
        assert 3 == explained(relay, ask()).ahead
        for client in clients:
            client.leave()
        assert [None] * 3 == [await call for call in calls]
        assert 0 == explained(relay, ask()).ahead


# ---------------------------------------------------------------- who is left out


async def test_whoever_is_not_in_the_ranking_is_named_with_its_reason(start_fake: StartFake) -> None:
    async with relaying(*[start_fake() for _ in range(4)]) as relay:
        relay.fleet.observe("two", Event.DRAIN, 1.0)
        relay.fleet.observe("three", Event.REFUSED, 1.0)
        relay.fleet.observe("four", Event.LOADING, 1.0)
        told = explained(relay, ask())
        assert ["one"] == [it.instance_id for it in told.decision.ranking]
        why = {it.instance_id: it.why for it in told.left_out}
        assert ["two", "three", "four"] == list(why)
        assert "draining" in why["two"]
        assert "ejected" in why["three"]
        assert "loads its model" in why["four"]


async def test_who_cannot_do_it_is_left_out_with_the_words_that_the_client_would_get(start_fake: StartFake) -> None:
    picture = ask(messages=[{"role": "user", "content": [IMAGE]}])
    async with relaying(start_fake(), start_fake(), facts=[{"vision": False}, {"vision": True}]) as relay:
        told = explained(relay, picture)
        assert Place("two") == told.decision.verdict
        (left_out,) = told.left_out
        assert "one" == left_out.instance_id
        relay.fleet.observe("two", Event.DRAIN, 1.0)
    async with relaying(start_fake(), facts=[{"vision": False}]) as relay:
        with pytest.raises(RequestInvalid) as refused:
            explained(relay, picture)
        assert left_out.why == refused.value.message


async def test_one_that_serves_another_model_is_named_too(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        relay.fleet.observe("two", Event.SWAPPED, 1.0)
        left_out = {it.instance_id: it.why for it in explained(relay, ask()).left_out}
        assert {"two": "it serves another model at present"} == left_out


async def test_where_slots_are_not_known_that_is_told(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake(), entries=[{}, {"dialect": "openai"}]) as relay:
        left_out = {it.instance_id: it.why for it in explained(relay, ask()).left_out}
        assert ["two"] == list(left_out)
        assert "how many slots" in left_out["two"]


async def test_of_many_those_that_were_not_looked_at_closely_are_told(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        told = explained(relay, ask(), decided=Decision(Place("one"), (one("one"),)))
        assert [("two", True)] == [(it.instance_id, "at a glance" in it.why) for it in told.left_out]


async def test_when_nobody_serves_everybody_is_left_out(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        for id_ in NAMES[:2]:
            relay.fleet.observe(id_, Event.DRAIN, 1.0)
        told = explained(relay, ask())
        assert (Refuse("no_instance"), ()) == (told.decision.verdict, told.decision.ranking)
        assert ["one", "two"] == [it.instance_id for it in told.left_out]
        assert told.ctx_tokens is None


# ---------------------------------------------------------------- what else is told


async def test_the_prompt_is_told_as_placement_sees_it(start_fake: StartFake) -> None:
    async with relaying(start_fake()) as relay:
        told = explained(relay, ask(system="12345", messages=[{"role": "user", "content": "123"}]))
        assert (MODEL, MODEL, 2) == (told.model, told.pool, told.units)
        assert 8 <= told.prompt_bytes <= 16
        assert 4096 == told.ctx_tokens
        assert 0.0 == told.over_subscribed


async def test_of_a_prompt_that_is_nobodys_to_see_nothing_is_told(start_fake: StartFake) -> None:
    async with relaying(start_fake(), entries=[HOSTED]) as relay:
        told = explained(relay, ask())
        assert (0, 0, None) == (told.units, told.prompt_bytes, told.ctx_tokens)
        assert Place("one") == told.decision.verdict


async def test_it_comes_back_from_json_as_it_was(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        for decided in (None, Decision(Wait("warm", 1.5), RANKING), Decision(Refuse("all_failed"))):
            told = explained(relay, ask(), decided=decided)
            assert told == msgspec.json.decode(msgspec.json.encode(told), type=Explanation)


@pytest.mark.parametrize("path", [CHAT_PATH.decode(), EMBEDDINGS, "/v1/completions"])
async def test_other_routes_are_explained_as_they_are_read(start_fake: StartFake, path: str) -> None:
    async with relaying(start_fake()) as relay:
        body: Json = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
        assert Place("one") == explained(relay, body, path).decision.verdict


async def test_the_only_model_is_meant_where_none_is_named(start_fake: StartFake) -> None:
    async with relaying(start_fake()) as relay:
        told = explained(relay, {"content": "hi"}, "/tokenize")
        assert (None, MODEL) == (told.model, told.pool)


# ---------------------------------------------------------------- what would be refused is refused


@pytest.mark.parametrize(
    ("body", "path", "error"),
    [
        (ask(model="nobody"), MESSAGES_PATH.decode(), ModelNotFound),
        (ask(max_tokens=None), MESSAGES_PATH.decode(), RequestInvalid),
        (ask(messages=[]), MESSAGES_PATH.decode(), RequestInvalid),
        ({"model": MODEL}, CHAT_PATH.decode(), RequestInvalid),
        ({"model": 7}, EMBEDDINGS, RequestInvalid),
    ],
)
async def test_what_is_refused_before_the_desk_is_refused_in_the_same_words(
    start_fake: StartFake, body: Json, path: str, error: type[Exception]
) -> None:
    kind = {MESSAGES_PATH.decode(): MessagesCall}.get(path)
    async with relaying(start_fake()) as relay:
        with pytest.raises(error) as refused:
            explained(relay, body, path)
        if kind is not None:
            said = await relay.call(Client(body), kind)
            assert (type(refused.value), str(refused.value)) == (type(said), str(said))


async def test_an_instance_that_has_said_it_lacks_the_route_is_left_out(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        body = {"model": MODEL, "input": "hi"}
        relay.corridor.skills.lacking(relay.fleet.view.rows["one"], EMBEDDINGS.encode())
        (left_out,) = explained(relay, body, EMBEDDINGS).left_out
        assert ("one", "it has said that it does not have this route") == (left_out.instance_id, left_out.why)
        assert () == explained(relay, body, "/v1/rerank").left_out


async def test_a_route_that_nobody_has_is_refused_as_for_the_call(start_fake: StartFake) -> None:
    async with relaying(start_fake(), start_fake()) as relay:
        for fake in relay.fakes:
            fake.on[EMBEDDINGS] = behave.error(404, "File Not Found", "not_found_error")
        body = {"model": MODEL, "input": "hi"}
        said = await relay.call(Client(body), passed_call(EMBEDDINGS))
        with pytest.raises(NotSupported) as refused:
            explained(relay, body, EMBEDDINGS)
        assert (NotSupported, str(refused.value)) == (type(said), str(said))
