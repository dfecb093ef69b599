import pytest

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


def test_facts_that_were_not_told_are_none() -> None:
    facts = Facts(slots=1)
    assert (None, None, None, False, None, None) == (
        facts.ctx_tokens, facts.model, facts.build, facts.vision, facts.tools, facts.thinking,
    )  # fmt: skip
