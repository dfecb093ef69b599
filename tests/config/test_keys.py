import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.keys import KeyEntry, parse_keys
from router.config.problem import ConfigInvalid, ConfigProblem

steady = settings(derandomize=True, max_examples=200, deadline=None)

SUM = hashlib.sha256(b"sk-one").hexdigest()
OTHER = hashlib.sha256(b"sk-two").hexdigest()


def problem(text: str | bytes) -> ConfigProblem:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigInvalid) as invalid:
        parse_keys(data, file="keys.yaml")
    (only,) = invalid.value.problems
    assert "keys.yaml" == only.file
    assert str(only) == invalid.value.message
    return only


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        (f"keys:\n- {{id: alice, sha256: {SUM}, team: red}}\n", (KeyEntry(id="alice", sha256=SUM, team="red"),)),
        (f"keys:\n- id: alice\n  sha256: {SUM}\n", (KeyEntry(id="alice", sha256=SUM),)),
        (f"keys: [{{id: alice, sha256: '{SUM.upper()}'}}]", (KeyEntry(id="alice", sha256=SUM.upper()),)),
        (
            f"keys:\n- {{id: a, sha256: {SUM}}}\n- {{id: b, sha256: {OTHER}}}\n",
            (KeyEntry(id="a", sha256=SUM), KeyEntry(id="b", sha256=OTHER)),
        ),
        (f"keys:\n- {{id: a, sha256: {SUM}}}\n- {{id: b, sha256: {SUM}}}\n",
         (KeyEntry(id="a", sha256=SUM), KeyEntry(id="b", sha256=SUM))),
        ("keys: []\n", ()),
        (f"# ours\nkeys:\n- {{id: A.b_c-9, sha256: {SUM}}}  # alice\n", (KeyEntry(id="A.b_c-9", sha256=SUM),)),
    ],
)  # fmt: skip
def test_a_keys_file_is_read(text: str, entries: tuple[KeyEntry, ...]) -> None:
    assert entries == parse_keys(text.encode(), file="keys.yaml")


FINE = f"- {{id: fine, sha256: {OTHER}}}\n"


@pytest.mark.parametrize(
    ("text", "line", "path", "phrase"),
    [
        ("", 1, "", "Expected object, got null"),
        ("[]", 1, "", "Expected object, got array"),
        ("{}", 1, "", "missing required field keys"),
        ("keys:\n", 1, "keys", "Expected array, got null"),
        (f"keys:\n  alice: {SUM}\n", 1, "keys", "Expected array, got object"),
        (f"keyz:\n{FINE}", 1, "", "unknown field keyz"),
        (f"keys:\n{FINE}- {SUM}\n", 3, "keys[1]", "Expected object, got str"),
        (f"keys:\n{FINE}- {{id: alice}}\n", 3, "keys[1]", "missing required field sha256"),
        (f"keys:\n{FINE}-\n  sha256: {SUM}\n", 4, "keys[1]", "missing required field id"),
        (f"keys:\n- {{id: alice, sha: {SUM}}}\n", 2, "keys[0]", "unknown field sha"),
        (f"keys:\n- {{id: alice, sha256: {SUM[:-1]}}}\n", 2, "keys[0].sha256", "64 hex digits"),
        (f"keys:\n- {{id: alice, sha256: {SUM}0}}\n", 2, "keys[0].sha256", "64 hex digits"),
        (f"keys:\n- {{id: alice, sha256: {SUM[:-1]}g}}\n", 2, "keys[0].sha256", "64 hex digits"),
        ("keys:\n- {id: alice, sha256: sk-one}\n", 2, "keys[0].sha256", "64 hex digits"),
        (f"keys:\n- {{id: alice, sha256: {'1' * 64}}}\n", 2, "keys[0].sha256", "Expected str, got int"),
        (f"keys:\n{FINE}- {{id: al ice, sha256: {SUM}}}\n", 3, "keys[1].id", "id in letters, digits"),
        (f"keys:\n- {{id: '', sha256: {SUM}}}\n", 2, "keys[0].id", "id in letters, digits"),
        (f"keys:\n- {{id: {'a' * 65}, sha256: {SUM}}}\n", 2, "keys[0].id", "id in letters, digits"),
        (f"keys:\n- {{id: 12, sha256: {SUM}}}\n", 2, "keys[0].id", "Expected str, got int"),
        (f"keys:\n- {{id: a, sha256: {SUM}, team: 'a b'}}\n", 2, "keys[0].team", "is not written as expected"),
        (f"keys:\n{FINE}{FINE}", 3, "keys[1].id", '"fine" stands twice'),
        (f"keys:\n{FINE}\n\n- {{id: a, sha256: {SUM}}}\n{FINE}", 6, "keys[2].id", '"fine" stands twice'),
        (f"keys:\n{FINE}- id: alice\n sha256: {SUM}\n", 4, "", "not valid YAML"),
        (f"keys:\n- {{id: alice, sha256: {SUM}\n", 3, "", "not valid YAML"),
        (f"keys:\n\t- {{id: alice, sha256: {SUM}}}\n", 2, "", "not valid YAML"),
        (f"keys:\n- {{id: 2026-99-99, sha256: {SUM}}}\n", 1, "", "not valid YAML"),
        (f"keys:\n- !!python/object:os.x {{id: a, sha256: {SUM}}}\n", 2, "", "not valid YAML"),
        (f"keys:\n- {{id: a, sha256: {SUM}}}\n---\nkeys: []\n", 3, "", "not valid YAML"),
        ("keys: \x00", 1, "", "not valid YAML"),
    ],
)
def test_a_broken_file_names_the_line_the_path_and_the_reason_and_no_sum(
    text: str, line: int, path: str, phrase: str
) -> None:
    told = problem(text)
    assert (line, path) == (told.line, told.path)
    assert phrase in told.reason
    assert "`" not in told.reason
    assert SUM[:16] not in str(told)
    assert OTHER[:16] not in str(told)


@pytest.mark.parametrize("data", [b"\xff\xfe\xfd", b"keys: \xff", b"\x80"])
def test_a_file_that_is_not_utf8_is_not_yaml(data: bytes) -> None:
    assert "not valid YAML" in problem(data).reason


@pytest.mark.parametrize(
    "text",
    [
        f"keys:\n- {{{SUM}: alice}}\n",
        f"{SUM}: alice\n",
        f"keys:\n- {{id: {SUM}, sha256: {SUM}}}\n- {{id: {SUM}, sha256: {OTHER}}}\n",
        f"keys:\n- {{id: a, sha256: *{SUM}}}\n",
        f"keys:\n- {{id: a, sha256: !{SUM} x}}\n",
        f"keys:\n- {{id: a, 256: {SUM}}}\n",
    ],
    ids=["a field", "a key of the file", "an id that stands twice", "an anchor", "a tag", "a field that is no text"],
)
def test_a_sum_in_the_wrong_place_is_not_repeated(text: str) -> None:
    assert SUM[:16] not in str(problem(text))


@steady
@given(cut=st.integers(0, 200), junk=st.text("{}[]:-#&*!|>'\"%@` \n\tab1~", max_size=6))
def test_a_file_with_a_slip_is_read_or_refused(cut: int, junk: str) -> None:
    text = f"keys:\n- {{id: alice, sha256: {SUM}, team: red}}\n{FINE}"
    problems: tuple[ConfigProblem, ...] = ()
    try:
        parse_keys((text[:cut] + junk + text[cut:]).encode(), file="keys.yaml")
    except ConfigInvalid as invalid:
        problems = invalid.problems
    for told in problems:
        assert 1 <= told.line <= 9
        assert SUM not in str(told)
        assert OTHER not in str(told)
