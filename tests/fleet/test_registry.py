import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.load import parse
from router.errors import ModelNotFound
from router.fleet.registry import Pool, Registry, build

steady = settings(derandomize=True, max_examples=300, deadline=None)

FILE = """
hosts: {rig1: {}, rig2: {api_key: "${RIG2_KEY}"}}
models:
  qwen3-coder:
    aliases: [coder, "claude-*", "claude-sonnet-*", "*[1m]"]
    defaults: {max_tokens: 8192}
    instances:
      - {id: rig1-gpu0, url: "http://rig1:8081", host: rig1, gpus: [0], slots: 4}
      - {url: "https://rig2/llm/", host: rig2, ca_file: ca.pem, model: qwen.gguf}
  tiny:
    aliases: [claude-haiku-4, "claude-haiku-*"]
    display_name: Tiny model
    instances:
      - {url: "https://rig2/llm/", host: rig2, ca_file: ca.pem}
      - {url: "http://[::1]:9000"}
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return build(parse(FILE.encode(), {"RIG2_KEY": "k2"}))


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("qwen3-coder", "qwen3-coder"),
        ("tiny", "tiny"),
        ("coder", "qwen3-coder"),
        ("claude-haiku-4", "tiny"),  # the alias, not a pattern
        ("claude-haiku-5", "tiny"),  # the longer pattern
        ("claude-opus-5", "qwen3-coder"),
        ("claude-sonnet-5", "qwen3-coder"),
        ("claude-", "qwen3-coder"),  # * may stand for nothing
        ("gpt[1m]", "qwen3-coder"),  # brackets mean themselves
        ("claude-opus\n5", "qwen3-coder"),
    ],
)
def test_a_name_finds_its_pool(registry: Registry, name: str, pool: str) -> None:
    assert pool == registry.resolve(name).name


def made(*models: tuple[str, str]) -> Registry:
    """Models with their aliases, each with an instance of its own."""
    lines = [
        f'  {name}: {{aliases: [{aliases}], instances: [{{url: "http://i{at}:1"}}]}}'
        for at, (name, aliases) in enumerate(models)
    ]
    return build(parse("\n".join(["models:", *lines]).encode(), {}))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("name", "winner", "models"),
    [
        ("a-b", "a-b", (("a-b", ""), ("other", '"a-*", "*"'))),  # the name over a pattern
        ("a-b", "m", (("m", "a-b"), ("other", '"a-*", "a-b*"'))),  # an alias over a longer pattern
        ("a-b", "m", (("m", '"a-*"'), ("other", '"*"'))),  # the longer pattern over a shorter
        ("a-b-c", "m", (("m", '"a-*-c"'), ("other", '"a-*"'))),
    ],
)
def test_the_more_exact_wins_whatever_the_order(
    name: str, winner: str, models: tuple[tuple[str, str], ...], turned: bool
) -> None:
    assert winner == made(*(reversed(models) if turned else models)).resolve(name).name


def test_a_models_own_name_wins_over_anothers_alias() -> None:
    """The file may not say so; the registry would still know what to do."""
    pools = {
        name: Pool(name=name, aliases=aliases, display_name=name, instance_ids=())
        for name, aliases in (("m", ("n",)), ("n", ()), ("o", ("n",)))
    }
    assert "n" == Registry(instances={}, pools=pools).resolve("n").name


def test_of_two_patterns_of_one_length_the_files_first_wins() -> None:
    assert "m" == made(("m", '"a-*"'), ("n", '"*-b"')).resolve("a-b").name
    assert "n" == made(("n", '"*-b"'), ("m", '"a-*"')).resolve("a-b").name


@pytest.mark.parametrize(
    ("name", "phrases"),
    [
        ("qwen3-codr", ['"qwen3-coder"', "did you mean"]),
        ("clude-haiku-4", ['"claude-haiku-4"', "did you mean"]),
        ("gpt-4.1", ['there are "qwen3-coder", "coder", "tiny"']),
        ("", ["there are"]),
    ],
)
def test_a_name_that_is_not_served_is_told_the_nearest(registry: Registry, name: str, phrases: list[str]) -> None:
    with pytest.raises(ModelNotFound) as refused:
        registry.resolve(name)
    for phrase in (f"model: {name!r} is not served here", "GET /v1/models lists all", *phrases):
        assert phrase in refused.value.message
    assert "*" not in refused.value.message  # a pattern is no name


@pytest.mark.parametrize("name", ["q" * 1_000_000, "a" + "-b" * 2_500], ids=["a megabyte", "nearly a pattern"])
def test_a_name_without_measure_is_refused_at_once_and_not_repeated(name: str) -> None:
    registry = made(("m", '"a*-b*-b*c"'))
    begun_s = time.process_time()
    with pytest.raises(ModelNotFound) as refused:
        registry.resolve(name)
    assert time.process_time() - begun_s < 0.2
    assert len(refused.value.message) < 400


def test_the_list_has_every_name_that_is_no_pattern(registry: Registry) -> None:
    assert ["qwen3-coder", "coder", "tiny", "claude-haiku-4"] == registry.names()


@steady
@given(name=st.text(max_size=12))
def test_any_name_finds_a_pool_or_an_error(name: str) -> None:
    registry = made(("m", '"a-*"'), ("n", ""))
    try:
        found = registry.resolve(name).name
    except ModelNotFound:
        found = None
    assert ("n" if name == "n" else "m" if name == "m" or name.startswith("a-") else None) == found


def test_a_pool_is_what_the_file_says(registry: Registry) -> None:
    coder, tiny = registry.pools["qwen3-coder"], registry.pools["tiny"]
    assert ("qwen3-coder", 8192) == (coder.display_name, coder.default_max_tokens)
    assert ("Tiny model", None) == (tiny.display_name, tiny.default_max_tokens)
    assert {coder.instance_ids[1]: "qwen.gguf"} == coder.upstream_models
    assert {} == tiny.upstream_models


def test_one_url_under_two_models_is_one_instance_in_two_pools(registry: Registry) -> None:
    coder, tiny = registry.pools["qwen3-coder"], registry.pools["tiny"]
    assert coder.instance_ids[1] == tiny.instance_ids[0]
    assert 3 == len(registry.instances)
    assert [("qwen3-coder",), ("qwen3-coder", "tiny"), ("tiny",)] == [it.pools for it in registry.instances.values()]


def test_an_instance_is_what_its_url_says(registry: Registry) -> None:
    first, second, third = registry.instances.values()
    assert ("rig1", 8081, "rig1:8081", False, "") == (
        first.address,
        first.port,
        first.authority,
        first.tls,
        first.prefix,
    )
    assert ("rig2", 443, "rig2", True, "/llm") == (
        second.address,
        second.port,
        second.authority,
        second.tls,
        second.prefix,
    )
    assert ("::1", 9000, "[::1]:9000", False, "") == (
        third.address,
        third.port,
        third.authority,
        third.tls,
        third.prefix,
    )


def test_an_instance_keeps_what_the_file_says_of_it(registry: Registry) -> None:
    first, second, _ = registry.instances.values()
    assert (4, (0,), "rig1", None, None) == (first.slots, first.gpus, first.host, first.api_key, first.ca_file)
    assert (None, (), "rig2", "k2", "ca.pem") == (
        second.slots,
        second.gpus,
        second.host,
        second.api_key,
        second.ca_file,
    )
