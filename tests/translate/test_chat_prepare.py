import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import RequestInvalid
from router.translate.chat_forced import ForcedChat
from router.translate.chat_prepare import DROPPED, prepare
from router.wire.chat import decode_chat

steady = settings(derandomize=True, max_examples=200, deadline=None)
BASE = b'"model":"m","messages":[ {"role":"user","content":"h\\u00e9 \\/"} ]'


def prepared(body: bytes, *, model: str | None = None, default_max_tokens: int | None = None) -> bytes:
    return prepare(body, decode_chat(body), model=model, default_max_tokens=default_max_tokens)


@pytest.mark.parametrize(
    "more",
    [
        b"",
        b',"max_tokens": 5',
        b',"cache_prompt":false,"timings_per_token":true,"logprobs":true,"n_cache_reuse":256',
        b',"stream":true,"stream_options":{"include_usage":true, "new":1}',
        b',"stream":false,"stream_options":null',
    ],
)
def test_a_body_that_needs_no_change_is_sent_as_it_came(more: bytes) -> None:
    body = b" { " + BASE + more + b" } "
    assert body is prepared(body)
    assert body is prepared(body, model="m")


def test_the_instance_gets_its_own_name_for_the_model() -> None:
    assert b'{"model":"my \\"q\\"","messages":[ {"role":"user","content":"h\\u00e9 \\/"} ]}' == prepared(
        b"{" + BASE + b"}", model='my "q"'
    )


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        (b"", b',"max_tokens":9'),
        (b',"max_tokens":null', b',"max_tokens":9'),
        (b',"max_tokens":5', b',"max_tokens":5'),
        (b',"max_tokens":0', b',"max_tokens":0'),
        (b',"max_completion_tokens":5', b',"max_completion_tokens":5'),
        (b',"n_predict":5', b',"n_predict":5'),
    ],
)
def test_a_default_limit_is_for_who_names_none(more: bytes, sent: bytes) -> None:
    assert b"{" + BASE + sent + b"}" == prepared(b"{" + BASE + more + b"}", default_max_tokens=9)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (b"", b'{"include_usage":true}'),
        (b',"stream_options":null', b'{"include_usage":true}'),
        (b',"stream_options":{}', b'{"include_usage":true}'),
        (b',"stream_options":{"include_usage":false,"x":[ 1 ]}', b'{"include_usage":true,"x":[ 1 ]}'),
        (b',"stream_options":{"include_usage":null}', b'{"include_usage":true}'),
    ],
)
def test_every_stream_counts(options: bytes, sent: bytes) -> None:
    body = b"{" + BASE + b',"stream":true' + options + b"}"
    assert b"{" + BASE + b',"stream":true,"stream_options":' + sent + b"}" == prepared(body)


@pytest.mark.parametrize("name", DROPPED)
def test_what_reaches_into_the_server_is_dropped(name: str) -> None:
    body = b"{" + BASE + b',"%b":{"x":1},"seed":7}' % name.encode()
    assert b"{" + BASE + b',"seed":7}' == prepared(body)
    assert DROPPED[name].startswith(("llama-server: ", "vLLM: "))


@steady
@given(
    fields=st.dictionaries(
        st.sampled_from(["seed", "tools", "stream_options", "stream", "max_tokens", "user", "x", "id_slot"]),
        st.sampled_from([b"null", b"true", b"7", b'"\\u00e9"', b'{"include_usage":true}', b"[ 1 , 2 ]", b"{}"]),
    ),
    model=st.sampled_from([None, "q"]),
    limit=st.sampled_from([None, 5]),
)
def test_values_stay_byte_for_byte_and_preparing_twice_changes_nothing(
    fields: dict[str, bytes], model: str | None, limit: int | None
) -> None:
    good: dict[str, tuple[bytes, ...]] = {
        "stream": (b"true", b"null"),
        "max_tokens": (b"7", b"null"),
        "user": (b'"\\u00e9"', b"null"),
    }
    good["stream_options"] = (b"{}", b"null", b'{"include_usage":true}')
    kept = {name: value for name, value in fields.items() if value in good.get(name, (value,))}
    body = b"{" + b",".join([BASE, *[b'"%b":%b' % (name.encode(), value) for name, value in kept.items()]]) + b"}"
    once = prepared(body, model=model, default_max_tokens=limit)
    for name in {"seed", "tools", "x"} & kept.keys():
        assert b'"%b":%b' % (name.encode(), kept[name]) in once
    assert once == prepare(once, decode_chat(once), model=model, default_max_tokens=limit)
    assert "id_slot" not in json.loads(once)


FORCED = ForcedChat("look", b'{"type":"object"}')


def forced(more: bytes, *, switch: bool = False) -> dict[str, object]:
    body = b"{" + BASE + b',"tools":[ {"x": 1} ],"tool_choice":"required"' + more + b"}"
    sent = prepare(body, decode_chat(body), model=None, default_max_tokens=None, forced=FORCED, switch=switch)
    assert b'"tools":[ {"x": 1} ]' in sent  # they stay in the prompt
    fields: dict[str, object] = json.loads(sent)
    return fields


def test_a_call_that_must_be_made_is_asked_for_as_a_text_of_its_schema_without_a_thought_before() -> None:
    fields = forced(b',"seed":7')
    shape = {"name": "output", "schema": {"type": "object"}, "strict": True}
    assert ("none", 1, 7) == (fields["tool_choice"], fields["thinking_budget_tokens"], fields["seed"])
    assert {"type": "json_schema", "json_schema": shape} == fields["response_format"]
    assert "chat_template_kwargs" not in fields


def test_no_other_shape_of_the_text_stands_beside_the_calls() -> None:
    fields = forced(b',"response_format":{"type":"json_object"},"grammar":"root ::= x","json_schema":{}')
    assert {"json_schema", "grammar"} & fields.keys() == set()
    assert "json_schema" in str(fields["response_format"])


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"", {"enable_thinking": False}),
        (b',"chat_template_kwargs":null', {"enable_thinking": False}),
        (b',"chat_template_kwargs":{"x":1}', {"enable_thinking": False, "x": 1}),
        (b',"chat_template_kwargs":{"enable_thinking":true}', {"enable_thinking": True}),
    ],
)
def test_a_template_with_a_switch_does_not_think_before_the_call_unless_the_client_says_so(
    given: bytes, sent: dict[str, object]
) -> None:
    assert sent == forced(given, switch=True)["chat_template_kwargs"]


def test_wishes_for_the_template_that_are_no_object_are_refused() -> None:
    with pytest.raises(RequestInvalid, match="chat_template_kwargs"):
        forced(b',"chat_template_kwargs":7', switch=True)
