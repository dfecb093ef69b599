import pytest
from msgspec.structs import replace

from router.fleet.instance import Facts, Instance
from tests.fleet import sample


def made(*, tls: bool = False, prefix: str = "", authority: str = "rig1:8080") -> Instance:
    return Instance(id="i", address="rig1", port=8080, authority=authority, tls=tls, prefix=prefix, api_key="k-secret")


@pytest.mark.parametrize(
    ("instance", "origin"),
    [
        (made(), "http://rig1:8080"),
        (made(tls=True), "https://rig1:8080"),
        (made(prefix="/llm"), "http://rig1:8080/llm"),
        (made(authority="[::1]:8080"), "http://[::1]:8080"),
    ],
)
def test_the_origin_is_the_url_up_to_the_prefix(instance: Instance, origin: str) -> None:
    assert origin == instance.origin


def test_a_repr_shows_neither_key_nor_address() -> None:
    assert "Instance(i)" == repr(made()) == str(made())
    assert "secret" not in repr(sample.row("a"))


def test_a_process_is_where_it_is_reached_and_neither_its_id_nor_its_key() -> None:
    one = made()
    assert one.process == replace(one, id="j", api_key="other", pools=("m",), slots=4).process
    others = [replace(one, **{field: value}) for field, value in PLACES.items()]
    assert 1 + len(PLACES) == len({one.process, *(it.process for it in others)})
    assert [False] * len(PLACES) == [one.same_process(it) for it in others]


PLACES: dict[str, object] = {"address": "rig2", "port": 8081, "prefix": "/llm", "tls": True}


def test_facts_that_were_not_told_are_none() -> None:
    facts = Facts(slots=1)
    assert (None, None, None, False, None, None) == (
        facts.ctx_tokens, facts.model, facts.build, facts.vision, facts.tools, facts.thinking,
    )  # fmt: skip
