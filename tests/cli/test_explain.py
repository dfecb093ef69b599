"""`explain`: what is read out of a file, what is asked, and what is said when there is nothing to ask."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.cli import _parser, main
from router.cli.explain import Options, Unreadable, options, question, run
from router.cli.explained import render
from router.relay.explain import Explanation
from tests.captures.reading import HERE
from tests.test_app import Stage, ask

Json = dict[str, Any]
CLAUDE_CODE = HERE / "claude-code-2.1.197-multiturn.jsonl"  # requests on its lines 2, 4 and 6, others without a body
OPENAI = HERE / "openai-sdk-python-3.54.0.jsonl"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage(fake={"n_ctx": 32_768}) as stage:
        yield stage


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "request.json"


def asked(file: Path, **more: Any) -> Json:
    return question(Options(file=str(file), **more))


def written(file: Path, *lines: object) -> Path:
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def captured(body: object, headers: object = (), path: str = "/v1/messages?beta=true") -> Json:
    return {"method": "POST", "path": path, "headers": headers, "body": body}


# ---------------------------------------------------------------- what is read


def test_a_file_may_be_the_body_of_a_request(file: Path) -> None:
    assert {"path": "/v1/messages", "headers": {}, "body": ask()} == asked(written(file, ask()))
    assert {"path": "/v1/chat/completions", "headers": {}, "body": ask()} == asked(written(file, ask()), chat=True)


def test_it_may_be_written_over_many_lines(file: Path) -> None:
    assert ask() == asked(written(file, json.dumps(ask(), indent=2)))["body"]


def test_a_capture_brings_its_path_and_its_headers(file: Path) -> None:
    for headers in ([["X-Session-ID", "s"], ["User-Agent", "curl"]], {"X-Session-ID": "s", "User-Agent": "curl"}):
        found = asked(written(file, captured(ask(), headers)), chat=True)
        told = {"x-session-id": "s", "user-agent": "curl"}
        assert {"path": "/v1/messages?beta=true", "headers": told, "body": ask()} == found


def test_a_clients_secrets_stay_in_the_file(file: Path) -> None:
    headers = [["Authorization", "Bearer sk-1"], ["X-Api-Key", "sk-1"], ["Cookie", "sk-1"], ["Anthropic-Beta", "x"]]
    assert {"anthropic-beta": "x"} == asked(written(file, captured(ask(), headers)))["headers"]


@pytest.mark.parametrize("line", [2, 4, 6])
def test_a_line_of_a_capture_may_be_chosen(line: int) -> None:
    found = asked(CLAUDE_CODE, line=line)
    entry = json.loads(CLAUDE_CODE.read_text().splitlines()[line - 1])
    assert (entry["body"], entry["path"]) == (found["body"], found["path"])
    assert "x-claude-code-session-id" in found["headers"]
    assert "authorization" not in found["headers"]


def test_the_only_request_of_a_capture_need_not_be_chosen(file: Path) -> None:
    nothing = captured(None, path="/")
    assert ask() == asked(written(file, nothing, "", captured(ask()), nothing))["body"]


def test_standard_input_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(json.dumps(ask()).encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    assert ask() == question(Options(file="-"))["body"]


def test_session_and_model_may_be_others_than_the_files(file: Path) -> None:
    written(file, captured(ask(), [["X-Claude-Code-Session-Id", "theirs"], ["Session-Id", "theirs"]]))
    found = asked(file, session="mine", model="qwen")
    assert ({**ask(), "model": "qwen"}, "mine") == (found["body"], found["headers"]["x-claude-code-session-id"])
    assert asked(file)["headers"]["x-claude-code-session-id"] == "theirs"


# ---------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", None, ["it is not JSON", "capture"]),
        (b"model: qwen", None, ["it is not JSON"]),
        (b'{"model": "\xff"}', None, ["it is not JSON", "UTF-8"]),
        (b'{"a":' * 100_000, None, ["it is not JSON", "deep"]),
        (b"[1]", None, ["holds no request", "JSON object"]),
        (b'{"body": 7}', None, ["holds no request"]),
        (b'{"body": null}', None, ["has no body", "--line"]),
        (b'{"body": {}, "headers": 7}', None, ["holds no request"]),
        (b'{"model": 1}\n{"model": 2}', None, ["several", "--line: 1, 2"]),
        (b'{"model": 1}\n' * 20, None, ["--line: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ..."]),
        (b'{"model": 1}', 2, ["it has 1 lines", "no line 2"]),
        (b'{"model": 1}\n{"body": null}', 2, ["line 2", "has no body"]),
        (b'{"model": 1}\nx', 2, ["line 2", "it is not JSON"]),
    ],
)
def test_a_file_that_holds_no_request_is_named_with_the_reason(
    file: Path, content: bytes, line: int | None, words: list[str]
) -> None:
    file.write_bytes(content)
    with pytest.raises(Unreadable) as error:
        asked(file, line=line)
    said = str(error.value)
    assert said.startswith(str(file))
    assert "\n" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(("name", "words"), [("nothing.json", "no such file"), (".", "directory")])
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(Unreadable) as error:
        asked(tmp_path / name)
    assert words in str(error.value)
    assert str(tmp_path) in str(error.value)


# ---------------------------------------------------------------- asked and printed


def ran(stage: Stage, file: Path, **more: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = run(Options(file=str(file), router=stage.router.url, **more), key=None, out=out, err=err)
    return status, out.getvalue(), err.getvalue()


def test_a_captured_request_is_explained_and_sent_to_nobody(stage: Stage) -> None:
    before = [len(fake.calls) for fake in stage.fakes]
    status, page, err = ran(stage, CLAUDE_CODE, line=2)
    assert (0, "") == (status, err)
    assert "It would go to " in page
    assert "test-model; the prompt has about " in page
    assert before == [len(fake.calls) for fake in stage.fakes]


def test_as_json_it_is_the_routers_own_answer_and_the_page_is_made_of_it(stage: Stage) -> None:
    status, text, _ = ran(stage, OPENAI, line=1, as_json=True)
    told = msgspec.json.decode(text, type=Explanation)
    assert (0, 2) == (status, len(told.decision.ranking))
    assert f"{render(told)}\n" == ran(stage, OPENAI, line=1)[1]


def test_what_would_be_refused_is_told_in_the_words_that_the_client_gets(stage: Stage) -> None:
    status, out, err = ran(stage, OPENAI, line=1, model="nobody")
    assert (1, "") == (status, out)
    assert "'nobody' is not served here" in err


def test_a_file_that_holds_nothing_is_told_on_stderr(stage: Stage, file: Path) -> None:
    assert (1, "", f"{file}: no such file; name a file with a request in JSON, or - for standard input\n") == ran(
        stage, file
    )


def test_where_no_router_is_that_is_told_in_one_line(stage: Stage) -> None:
    out, err = io.StringIO(), io.StringIO()
    nowhere = Options(file=str(OPENAI), line=1, router="http://127.0.0.1:9")
    assert 1 == run(nowhere, key=None, out=out, err=err)
    assert "no router answers at" in err.getvalue()


def test_the_command_line_says_all_of_it(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", "x.jsonl", "--line", "3", "--chat", "--session", "s", "--model", "m", "--json", "--router", "u"]
    all_of_it = Options(file="x.jsonl", line=3, chat=True, session="s", model="m", router="u", as_json=True)
    assert all_of_it == options(_parser().parse_args(words))
    assert Options(file="-") == options(_parser().parse_args(["explain", "-"]))
    assert 0 == main(["explain", str(OPENAI), "--line", "1", "--router", stage.router.url])
    assert "INSTANCE" in capsys.readouterr().out
