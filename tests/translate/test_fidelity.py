import msgspec
import pytest

from router.config.schema import Capabilities
from router.fleet.instance import Facts, Instance
from router.translate.fidelity import FEATURES, Abilities, Exact, Native, Refused, Translated, abilities, way
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical

CAN_ALL = Abilities()
CHAT_ONLY = Abilities(llama=False, messages=False)
NATIVE_ONLY = Abilities(chat=False)
TOOL = {"name": "look", "description": "d", "input_schema": {"type": "object", "properties": {}}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGFsbG8="}}
SCHEMA = {"format": {"type": "json_schema", "schema": {"type": "object"}}}

# What a request has that uses the feature, by the feature's name.
USES: dict[str, dict[str, object]] = {
    "images": {"messages": [{"role": "user", "content": [IMAGE]}]},
    "tools": {"tools": [TOOL]},
    "must_call": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
    "no_tools": {"tools": [TOOL], "tool_choice": {"type": "none"}},
    "one_tool_at_a_time": {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "structured_output": {"output_config": SCHEMA},
    "must_call_and_begun": {
        "tools": [TOOL],
        "tool_choice": {"type": "any"},
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well"}],
    },
}
# What neither route can do.
NOWHERE = {"must_call_and_begun"}


def call(**fields: object) -> Canonical:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]} | fields
    return canonical(decode_messages(msgspec.json.encode(body)))


def instance(**fields: object) -> Instance:
    return msgspec.convert({"id": "one", "address": "10.0.0.1", "port": 1, "authority": "x"} | fields, Instance)


def test_every_feature_of_the_table_has_a_reason_and_an_example_here() -> None:
    assert {feature.name for feature in FEATURES} == set(USES)
    assert all(len(feature.why) > 20 for feature in FEATURES)


def test_a_plain_call_goes_native() -> None:
    assert way(call(), CAN_ALL, model="m") == Native()


SOMEWHERE = [feature for feature in FEATURES if feature.name not in NOWHERE]


@pytest.mark.parametrize("feature", SOMEWHERE, ids=lambda feature: feature.name)
def test_what_the_native_route_loses_is_translated_and_the_rest_is_not(feature: msgspec.Struct) -> None:
    name = feature.name  # type: ignore[attr-defined]  # the parameter is a Feature
    loses = feature.native is False  # type: ignore[attr-defined]
    assert way(call(**USES[name]), CAN_ALL, model="m") == (Translated() if loses else Native())


@pytest.mark.parametrize("feature", SOMEWHERE, ids=lambda feature: feature.name)
def test_a_server_of_chat_completions_alone_gets_everything_translated(feature: msgspec.Struct) -> None:
    name = feature.name  # type: ignore[attr-defined]
    assert isinstance(way(call(**USES[name]), CHAT_ONLY, model="m"), Translated)


@pytest.mark.parametrize("name", [feature.name for feature in SOMEWHERE if feature.native is False])
def test_what_only_translation_keeps_is_refused_where_there_is_none(name: str) -> None:
    refused = way(call(**USES[name]), NATIVE_ONLY, model="m")
    assert isinstance(refused, Refused)
    assert name in refused.reason
    assert "m" in refused.reason


@pytest.mark.parametrize("name", ["images", "tools"])
def test_what_a_model_cannot_do_is_refused_with_the_field_and_its_name(name: str) -> None:
    cannot = msgspec.structs.replace(CAN_ALL, **{name: False})
    refused = way(call(**USES[name]), cannot, model="qwen")
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("messages: " if name == "images" else "tools: ")
    assert "qwen" in refused.reason


@pytest.mark.parametrize("can", [CAN_ALL, CHAT_ONLY, NATIVE_ONLY])
def test_an_answer_that_is_begun_cannot_be_made_to_call_a_tool(can: Abilities) -> None:
    refused = way(call(**USES["must_call_and_begun"]), can, model="m")
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("tool_choice: ")


def test_tools_go_to_a_template_without_them_where_the_operator_says_so() -> None:
    cannot = Abilities(tools=False)
    assert way(call(tools=[TOOL]), cannot, model="m", pass_tools=True) == Native()


def test_server_tools_are_refused_in_the_words_that_clients_match_on() -> None:
    refused = way(call(tools=[{"type": "web_search_20250305", "name": "web_search"}]), CAN_ALL, model="m")
    assert isinstance(refused, Refused)
    words = "tools.0: Input tag 'web_search_20250305' found using 'type' does not match any of the expected tags"
    assert refused.reason.startswith(words)


def test_the_messages_api_itself_gets_everything_as_it_came() -> None:
    assert way(call(tools=[{"type": "web_search_20250305", "name": "w"}]), Abilities(exact=True), model="m") == Exact()


@pytest.mark.parametrize(
    ("fields", "facts", "expected"),
    [
        ({}, Facts(slots=1), Abilities(images=False)),
        ({}, Facts(slots=1, vision=True, tools=False), Abilities(tools=False)),
        ({}, Facts(slots=1, vision=True, switch=True, effort=True), Abilities(switch=True, effort=True)),
        ({}, Facts(slots=1, vision=True, messages=False), Abilities(messages=False)),
        ({}, None, Abilities(llama=False, messages=False)),
        ({"dialect": "llama"}, None, Abilities()),
        ({"dialect": "openai"}, Facts(slots=1, vision=True), Abilities(llama=False, messages=False)),
        ({"dialect": "anthropic"}, None, Abilities(exact=True, llama=False, chat=False)),
        ({"capabilities": Capabilities(images=True, tools=True)}, Facts(slots=1, tools=False), Abilities()),
        ({"dialect": "openai", "capabilities": Capabilities(messages=True)}, None, Abilities(llama=False)),
    ],
)
def test_the_registry_wins_over_props_and_doubt_is_in_favour(
    fields: dict[str, object], facts: Facts | None, expected: Abilities
) -> None:
    assert abilities(instance(**fields), facts) == expected
