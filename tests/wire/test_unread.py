import json
import timeit

import msgspec
import pytest

from router.errors import RequestInvalid
from router.wire.anthropic import decode_messages
from router.wire.unread import (
    COMMON_BETAS,
    HOSTED_BETAS,
    HOSTED_FIELDS,
    decode_noting,
    known_decoder,
    unread_betas,
    unread_fields,
)
from tests.captures.reading import HERE

ASK = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True, "tools": []}
USUAL = ",".join(sorted(COMMON_BETAS)).encode()


def known(**more: object) -> tuple[str, ...]:
    return unread_fields(known_decoder.decode(msgspec.json.encode({**ASK, **more})))


def beta(*values: bytes) -> tuple[str, ...]:
    return unread_betas([(b"host", b"x"), *[(b"anthropic-beta", value) for value in values], (b"accept", b"y")])


def test_a_request_that_says_nothing_more_has_nothing_unread() -> None:
    assert () == known() == known(temperature=1, metadata={"user_id": "u", "new": 1}, output_config={"new": 1})


def test_fields_of_the_hosted_api_are_named() -> None:
    assert ("context_management", "service_tier") == known(service_tier="auto", context_management={"edits": []})
    assert HOSTED_FIELDS == known(**dict.fromkeys(HOSTED_FIELDS))  # null is said, too


def test_any_other_field_is_one_that_nobody_knows() -> None:
    body = msgspec.json.encode({**ASK, "nonce": 1})
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        known_decoder.decode(body)
    assert ("other",) == unread_fields(decode_messages(body)) == unread_fields(decode_noting(body))
    assert () == unread_fields(decode_noting(msgspec.json.encode(ASK)))


@pytest.mark.parametrize("more", [{"model": 7}, {"model": ""}, {"messages": []}, {"system": 7, "nonce": 1}])
def test_what_is_wrong_is_told_as_ever(more: dict[str, object]) -> None:
    told = []
    for decode in (decode_messages, decode_noting):
        with pytest.raises(RequestInvalid) as refused:
            decode(msgspec.json.encode({**ASK, **more}))
        told.append(refused.value.message)
    assert told[0] == told[1]


def test_fields_inside_others_are_nobodys_business() -> None:
    assert () == known(messages=[{"role": "user", "content": [{"type": "new", "nonce": 1}], "nonce": 1}])


def test_betas_are_named_once_and_those_that_nobody_knows_are_one() -> None:
    assert ("files-api-2025-04-14",) == beta(b" files-api-2025-04-14 ,files-api-2025-04-14")
    assert ("other",) == beta(b"nonce-one,nonce-two")
    assert ("other", "compact-2026-01-12") == beta(b"\xff\xfe,", b"compact-2026-01-12," + USUAL)
    assert () == beta() == beta(b"") == beta(b" , ,") == beta(USUAL)
    assert HOSTED_BETAS == {*beta(*[name.encode() for name in HOSTED_BETAS])}
    assert not HOSTED_BETAS & COMMON_BETAS


def test_what_claude_code_and_the_sdks_send_is_known() -> None:
    seen = set()
    for file in sorted(HERE.glob("*.jsonl")):
        for entry in map(json.loads, file.read_text().splitlines()):
            if entry["path"].startswith("/v1/messages") and entry["body"]:
                headers = [(name.lower().encode(), value.encode()) for name, value in entry["headers"]]
                assert () == unread_betas(headers)
                # A token count has no max_tokens, and needs none here.
                seen |= {*unread_fields(known_decoder.decode(msgspec.json.encode(entry["body"])))}
    assert {"context_management"} == seen


def test_an_ordinary_call_pays_next_to_nothing() -> None:
    head = known_decoder.decode(msgspec.json.encode({**ASK, "context_management": {"edits": []}}))
    headers = [(b"x-stainless-%d" % number, b"v") for number in range(20)] + [(b"anthropic-beta", USUAL)]
    times = timeit.repeat(lambda: (unread_fields(head), unread_betas(headers)), number=2000, repeat=9)
    assert min(times) / 2000 < 10e-6  # 1.9 us on the machine that it was written on; it must not become 100
