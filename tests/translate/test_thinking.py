import msgspec
import pytest

from router.translate.fidelity import Abilities
from router.translate.thinking import levers
from router.wire.anthropic import decode_messages
from router.wire.canonical import Canonical, canonical

SWITCH = Abilities(switch=True)


def call(**fields: object) -> Canonical:
    body = {"model": "m", "max_tokens": 9000, "messages": [{"role": "user", "content": "hi"}]} | fields
    return canonical(decode_messages(msgspec.json.encode(body)))


def kwargs(of: Canonical, can: Abilities) -> object:
    raw = levers(of, can).get("chat_template_kwargs")
    return None if raw is None else msgspec.json.decode(raw)


@pytest.mark.parametrize(
    ("thinking", "on"),
    [
        ({"type": "disabled"}, False),
        ({"type": "adaptive"}, True),
        ({"type": "enabled", "budget_tokens": 2000}, True),
        ({"type": "between_tools"}, True),
    ],
)
def test_thinking_becomes_the_switch_of_the_template(thinking: dict[str, object], on: bool) -> None:
    assert kwargs(call(thinking=thinking), SWITCH) == {"enable_thinking": on}


def test_a_client_that_says_nothing_gets_what_the_template_does() -> None:
    assert levers(call(), SWITCH) == {}


def test_a_template_without_the_switch_is_left_alone() -> None:
    assert levers(call(thinking={"type": "disabled"}), Abilities()) == {}


@pytest.mark.parametrize(
    ("effort", "told"), [("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "high"), ("max", "high")]
)
def test_effort_goes_to_a_template_that_knows_it(effort: str, told: str) -> None:
    asked = call(output_config={"effort": effort})
    assert kwargs(asked, Abilities(effort=True)) == {"reasoning_effort": told}
    assert levers(asked, Abilities()) == {}


def test_effort_is_a_field_of_its_own_for_other_servers() -> None:
    asked = call(output_config={"effort": "low"}, thinking={"type": "disabled"})
    other = Abilities(llama=False, messages=False, switch=True, effort=True)
    assert dict(levers(asked, other)) == {
        "reasoning_effort": b'"low"',
        "chat_template_kwargs": b'{"enable_thinking":false}',
    }


def test_what_the_client_writes_for_the_template_itself_wins() -> None:
    asked = call(thinking={"type": "disabled"}, chat_template_kwargs={"enable_thinking": True, "name": "x"})
    assert kwargs(asked, SWITCH) == {"enable_thinking": True, "name": "x"}
