"""What every kind of call is asked alike."""

from tests.translate.asking import body_of, chat, messages, passing


def test_the_relay_knows_the_name_the_size_and_whether_it_streams() -> None:
    for request in (messages(stream=True), chat(stream=True), passing(model="asked", stream=True)):
        assert (request.model, request.streams) == ("asked", True)
    for request in (messages(), chat(), passing(model="asked")):
        assert request.streams is False
    assert messages().size_bytes == chat().size_bytes == len(body_of())
    assert passing(input="a").model is None


def test_no_prompt_is_in_a_repr() -> None:
    for request in (messages(), chat(), passing(input="hi")):
        assert "hi" not in repr(request)
