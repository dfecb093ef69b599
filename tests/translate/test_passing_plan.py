"""A call that is only passed on."""

import json

from tests.translate.asking import (
    ABOUT,
    HOSTED,
    LLAMA,
    passing,
    plan,
    sent,
)


def test_an_instances_name_is_not_added_to_a_passed_call_that_names_none() -> None:
    assert sent(plan(passing(input="a"), LLAMA, model="theirs")) == {"input": "a"}


def test_a_passed_route_is_not_asked_of_the_messages_api() -> None:
    assert "/v1/embeddings" in (passing(model="m").refusal(HOSTED, pass_tools=False) or "")


def test_a_passed_call_is_sent_as_it_is() -> None:
    request = passing(model="m", input=["a"], max_tokens=None)
    before = plan(request, LLAMA).body
    request.complete(5)
    assert plan(request, LLAMA).body is before
    assert request.max_tokens == 0


def test_a_passed_call_is_not_counted() -> None:
    assert passing(model="m").count(LLAMA, upstream_model=None) is None


def test_an_answer_to_a_call_without_a_name_gets_that_of_its_pool_once_it_is_known() -> None:
    for meant, told in (("", "theirs"), ("pool", "pool")):
        request = passing(input="a")
        if meant:
            request.means(meant)
        made = plan(request, LLAMA)
        assert sent(made) == {"input": "a"}
        assert json.loads(made.whole(b'{"model":"theirs"}', ABOUT)[0])["model"] == told
