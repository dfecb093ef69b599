"""The scripted instance is as honest as llama-server, or exactly as bad as it was told to be."""

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.rig import behave
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Behaviour
from tests.rig.fake_slots import spoken

ASK = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "please echo nonce:a1 now"}]}
STREAM = {**ASK, "stream": True}


@pytest.fixture
def fake() -> Iterator[FakeInstance]:
    with FakeInstance() as running:
        yield running


def post(fake: FakeInstance, body: object, path: str = "/v1/messages") -> httpx.Response:
    return httpx.post(f"{fake.url}{path}", json=body, timeout=10)


def test_a_plain_answer_echoes_the_nonce_and_counts_its_tokens(fake: FakeInstance) -> None:
    answer = post(fake, ASK).json()
    assert answer["content"] == [{"type": "text", "text": "".join(spoken("nonce:a1", 3))}]
    assert answer["usage"] == {"cache_read_input_tokens": 0, "input_tokens": 5, "output_tokens": 3}
    assert answer["stop_reason"] == "end_turn"


def test_the_same_prompt_again_is_read_from_the_cache_but_for_its_last_word(fake: FakeInstance) -> None:
    post(fake, ASK)
    assert post(fake, ASK).json()["usage"]["cache_read_input_tokens"] == 4


def test_a_stream_has_llama_servers_events_in_llama_servers_chunks(fake: FakeInstance) -> None:
    with socket.create_connection(("127.0.0.1", fake.port)) as client:
        body = b'{"stream":true,"messages":[{"role":"user","content":"nonce:a1"}]}'
        client.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        raw = b"".join(iter(lambda: client.recv(65536), b""))  # to the end: it closes after a stream
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Server: llama.cpp",
        b"Access-Control-Allow-Origin: ",
        b"X-Accel-Buffering: no",
        b"Content-Type: text/event-stream",
        b"Transfer-Encoding: chunked",
        b"Keep-Alive: timeout=5, max=100",
    ]
    sizes = [line for line in rest.split(b"\r\n") if line and all(byte in b"0123456789abcdef" for byte in line)]
    assert len(sizes) == 5  # three tokens, the end, the last chunk
    names = [line.removeprefix(b"event: ") for line in rest.split(b"\n") if line.startswith(b"event: ")]
    assert names == [
        b"message_start",
        b"content_block_start",
        *[b"content_block_delta"] * 3,
        b"content_block_stop",
        b"message_delta",
        b"message_stop",
    ]


def test_the_openai_side_answers_plain_and_streamed(fake: FakeInstance) -> None:
    plain = post(fake, ASK, "/v1/chat/completions").json()
    assert plain["choices"][0]["message"]["content"] == "nonce:a1 w1 w2"
    streamed = post(fake, STREAM, "/v1/chat/completions").text
    assert streamed.endswith("data: [DONE]\n\n")
    assert '"timings":{"cache_n":' in streamed


def test_a_thinking_answer_with_a_tool_call_closes_all_blocks_at_the_end() -> None:
    told = behave.answer(thinking=("hm", "m"), tool=("Bash", ('{"command"', ':"ls"}')))
    with FakeInstance([told, told]) as fake:
        text = post(fake, STREAM).text
        assert text.index('"input_json_delta"') < text.index("content_block_stop")
        assert text.count("event: content_block_stop") == 3
        assert '"stop_reason":"tool_use"' in text
        assert post(fake, ASK).json()["content"][2]["input"] == {"command": "ls"}


@pytest.mark.parametrize("path", ["/health", "/props", "/slots", "/v1/models", "/metrics"])
def test_it_speaks_about_itself(fake: FakeInstance, path: str) -> None:
    fake.props = {"total_slots": "many"}
    answer = httpx.get(f"{fake.url}{path}")
    assert answer.status_code == 200
    assert answer.headers["server"] == "llama.cpp"
    if path == "/props":
        assert answer.json()["total_slots"] == "many"


def test_counting_tokens_agrees_with_the_usage_of_the_same_prompt(fake: FakeInstance) -> None:
    counted = post(fake, ASK, "/v1/messages/count_tokens").json()["input_tokens"]
    assert counted == post(fake, ASK).json()["usage"]["input_tokens"]


def test_every_error_has_llama_servers_shape_and_closes_the_connection() -> None:
    cases = [behave.loading(), behave.server_error(), behave.too_long(), behave.rate_limited()]
    with FakeInstance(cases) as fake, httpx.Client() as client:
        for status in (503, 500, 400, 429):
            answer = client.post(f"{fake.url}/v1/messages", json=ASK)
            assert answer.status_code == status == answer.json()["error"]["code"]
            assert answer.headers["connection"] == "close"
        assert fake.connections == 4


def test_plain_answers_keep_the_connection_until_its_last_request() -> None:
    with FakeInstance(max_requests=2) as fake, httpx.Client() as client:
        for _ in range(4):
            client.post(f"{fake.url}/v1/messages", json=ASK)
        assert [(seen.connection, seen.nth) for seen in fake.requests] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_an_idle_connection_is_closed() -> None:
    with FakeInstance(idle_s=0.05) as fake, socket.create_connection(("127.0.0.1", fake.port)) as client:
        client.settimeout(5)
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    "bad",
    [
        behave.reset_before_head(),
        behave.close_before_head(),
        behave.broken_head(),
        behave.wrong_content_length(),
        behave.die_mid_stream(),
        behave.die_mid_stream(reset=True),
        behave.die_mid_chunk(),
        behave.broken_chunk(),
    ],
)
def test_a_broken_wire_is_seen_as_broken_and_the_next_call_is_answered(bad: Behaviour) -> None:
    with FakeInstance([bad]) as fake:
        with pytest.raises(httpx.TransportError):
            post(fake, STREAM)
        assert post(fake, ASK).status_code == 200
        fake.wait_for(lambda it: (it.hangups, it.answered) == (0, 1))


@pytest.mark.parametrize("honest", [behave.drip(), behave.comments(), behave.one_packet(), behave.huge_event()])
def test_odd_pacing_is_still_a_whole_answer(honest: Behaviour) -> None:
    with FakeInstance([honest]) as fake:
        assert post(fake, STREAM).text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')


@pytest.mark.parametrize("odd", [behave.error_event(), behave.end_without_stop(), behave.broken_event()])
def test_a_bad_stream_can_be_well_framed(odd: Behaviour) -> None:
    with FakeInstance([odd]) as fake:
        assert post(fake, STREAM).status_code == 200


@pytest.mark.parametrize("stall", [behave.stall_before_head(), behave.stall_after_head(), behave.stall_mid_stream()])
def test_a_stall_ends_when_released_and_a_client_that_leaves_is_counted(stall: Behaviour) -> None:
    with FakeInstance([stall, stall]) as fake:
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{fake.url}/v1/messages", json=STREAM, timeout=0.2)
        fake.wait_for_hangups(1)
        fake.wait_idle()
        waiting = threading.Thread(target=post, args=(fake, STREAM))
        waiting.start()
        fake.wait_for_calls(2)
        fake.release()
        waiting.join(10)
        fake.wait_for(lambda it: it.answered == 1)


def test_calls_beyond_the_slots_wait_and_the_slots_are_seen_busy() -> None:
    with FakeInstance([behave.stall_before_head()] * 3, slots=2) as fake:
        callers = [threading.Thread(target=post, args=(fake, ASK)) for _ in range(3)]
        for caller in callers:
            caller.start()
        fake.wait_for_calls(3)
        fake.wait_for(lambda it: len(it.house.busy) == 2 and it.house.deferred == 1)
        assert "llamacpp:requests_deferred 1\n" in httpx.get(f"{fake.url}/metrics").text
        fake.release()
        for caller in callers:
            caller.join(10)
        assert fake.peak_in_flight == 3


def test_a_stopped_instance_refuses_and_comes_back_on_its_port(fake: FakeInstance) -> None:
    port = fake.port
    fake.stop()
    with pytest.raises(httpx.ConnectError):
        post(fake, ASK)
    fake.start()
    assert fake.port == port
    assert post(fake, ASK).status_code == 200


def test_a_frozen_instance_answers_nothing_until_thawed(fake: FakeInstance) -> None:
    fake.freeze()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{fake.url}/health", timeout=0.1)
    fake.thaw()
    assert httpx.get(f"{fake.url}/health").json() == {"status": "ok"}


def test_an_instance_that_hangs_is_well_to_look_at_while_nothing_is_computed() -> None:
    with FakeInstance() as fake:
        fake.hang()
        with httpx.stream("POST", f"{fake.url}/v1/messages", json=STREAM, timeout=10) as answer:
            lines = answer.iter_lines()
            assert [next(lines) for _ in range(4)] == [":", "", ":", ""]
            assert httpx.get(f"{fake.url}/health").json() == {"status": "ok"}
            assert "llamacpp:requests_processing 1\n" in httpx.get(f"{fake.url}/metrics").text
            assert "llamacpp:n_decode_total 0\n" in httpx.get(f"{fake.url}/metrics").text
            fake.go_on()
            assert "event: message_stop" in [*lines]


def test_a_slot_of_an_instance_that_hangs_stays_busy_after_its_client_has_left() -> None:
    with FakeInstance() as fake:
        fake.hang()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{fake.url}/v1/messages", json=ASK, timeout=0.1)
        fake.wait_for_hangups(1)
        assert "llamacpp:requests_processing 1\n" in httpx.get(f"{fake.url}/metrics").text
        fake.go_on()
        fake.wait_for(lambda it: not it.house.busy)


def test_a_key_is_asked_for_everywhere_but_at_health() -> None:
    with FakeInstance(api_key="k1") as fake:
        assert httpx.get(f"{fake.url}/health").status_code == 200
        assert httpx.get(f"{fake.url}/props").status_code == 401
        assert httpx.get(f"{fake.url}/props", headers={"Authorization": "Bearer k1"}).status_code == 200


def test_a_script_can_be_a_function_of_the_request() -> None:
    with FakeInstance(lambda seen: behave.answer() if "a1" in str(seen.json) else behave.loading()) as fake:
        assert post(fake, ASK).status_code == 200
        assert post(fake, {"messages": []}).status_code == 503
