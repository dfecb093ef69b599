import gzip
import io
from pathlib import Path

import msgspec
import pytest

from router import cli
from router.cli import simulate
from tests.sim import sample


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.jsonl"
    path.write_bytes(b"\n".join(sample.sessions(8)) + b"\n\n")
    return path


def play(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = cli.main(["simulate", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def figures(capsys: pytest.CaptureFixture[str], *arguments: object) -> simulate.Told:
    status, out, err = play(capsys, *arguments, "--json")
    assert (0, "") == (status, err)
    return msgspec.json.decode(out, type=simulate.Told)


@pytest.mark.parametrize("policy", ["ptx", "least", "sticky"])
def test_sessions_are_played_and_summed_up(sessions: Path, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--trace", sessions, "--format", "claude-code", "--instances", 2, "--users", 6, "--seconds", 200)
    status, out, err = play(capsys, *arguments, "--policy", policy)
    assert (0, "") == (status, err)
    assert out.splitlines()[0].split()[0] == "TTFT"
    assert out.splitlines()[1].startswith(f"{policy}, 2 instances")


def test_the_same_seed_gives_the_same_figures(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--trace", sessions, "--format", "claude-code", "--instances", 2, "--users", 6, "--seconds", 200)
    one = figures(capsys, *arguments, "--seed", 5)
    assert one == figures(capsys, *arguments, "--seed", 5)
    assert one != figures(capsys, *arguments, "--seed", 6)
    assert ("ptx", 2, 5) == (one.policy, one.instances, one.seed)
    assert one.calls > 20


def test_a_compressed_trace_is_the_same_trace(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = sessions.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(sessions.read_bytes()))
    arguments = ("--format", "claude-code", "--instances", 1, "--users", 2, "--seconds", 100)
    assert figures(capsys, "--trace", sessions, *arguments) == figures(capsys, "--trace", packed, *arguments)


def test_slower_servers_and_smaller_caches_make_it_slower(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--trace", sessions, "--format", "claude-code", "--instances", 2, "--users", 8, "--seconds", 200)
    plain = figures(capsys, *arguments)
    assert figures(capsys, *arguments, "--speeds", "0.5").ttft_mean_s > plain.ttft_mean_s
    scarce = figures(capsys, *arguments, "--slots", 2, "--cache-ram", 0)
    assert scarce.cached < plain.cached
    assert figures(capsys, *arguments, "--unified") != plain


def test_a_part_of_the_sessions(sessions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = sample.sessions(1), sample.sessions(1, first=9000)
    sessions.write_bytes(b"\n".join([*short, *long, *short, *long]))
    arguments = ("--trace", sessions, "--format", "claude-code", "--instances", 1, "--users", 2, "--seconds", 100)
    quick = figures(capsys, *arguments, "--part", "1/2")
    assert quick.ttft_mean_s < figures(capsys, *arguments, "--part", "2/2").ttft_mean_s
    sessions.write_bytes(b"\n".join(short * 2))
    assert quick == figures(capsys, *arguments)
    status, out, err = play(capsys, *arguments, "--part", "9/9")
    assert (1, "", f"{sessions}: no session is left to play\n") == (status, out, err)


def test_mooncake_requests_are_all_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"\n".join(sample.requests(50)))
    told = figures(capsys, "--trace", path, "--format", "mooncake", "--instances", 2, "--load", 2)
    assert (50, 0) == (told.calls, told.open)
    assert 75 <= told.end_s < 80
    some = figures(capsys, "--trace", path, "--format", "mooncake", "--instances", 2, "--load", 2, "--seconds", 30)
    assert 20 == some.calls


def test_a_log_tells_what_another_gpu_or_a_larger_cache_would_have_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "calls.log"
    # Eight people in turn, each with a talk that grows: more than two slots and a small cache can keep.
    turns = [
        (f"key{user}", 8.0 * (8 * turn + user) + 9.0, 9000 + 600 * turn, 100) for turn in range(12) for user in range(8)
    ]
    path.write_bytes(b"\n".join(sample.log(turns)))
    arguments = ("--trace", path, "--format", "records", "--slots", 1)
    two = figures(capsys, *arguments, "--instances", 2, "--cache-ram", 0)
    eight = figures(capsys, *arguments, "--instances", 8, "--cache-ram", 0)
    large = figures(capsys, *arguments, "--instances", 2, "--cache-ram", 65_536)
    assert 96 == two.calls == eight.calls == large.calls
    assert two.cached < 0.5 < min(eight.cached, large.cached)
    assert max(eight.ttft_mean_s, large.ttft_mean_s) < two.ttft_mean_s


def test_a_log_of_several_models_needs_a_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "calls.log"
    path.write_bytes(b"\n".join([*sample.log([("a", 5.0, 900, 9)]), *sample.log([("a", 9.0, 900, 9)], pool="tiny")]))
    arguments = ("--trace", path, "--format", "records", "--instances", 1)
    assert 1 == figures(capsys, *arguments, "--pool", "tiny").calls
    status, _, err = play(capsys, *arguments)
    assert 1 == status
    assert "several models, choose one with --pool: qwen, tiny" in err
    assert "no answered call of none is in it" in play(capsys, *arguments, "--pool", "none")[2]


@pytest.mark.parametrize("format_", ["claude-code", "mooncake", "records"])
def test_a_file_that_is_not_there_or_not_that_is_told(
    format_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--format", format_, "--instances", 1)
    missing = tmp_path / "missing.jsonl"
    assert (1, "", f"{missing}: no such file\n") == play(capsys, "--trace", missing, *arguments)
    strange = tmp_path / "strange.jsonl"
    strange.write_text('{"a": 1}\n')
    status, out, err = play(capsys, "--trace", strange, *arguments)
    assert (1, "") == (status, out)
    assert err.startswith(f"{strange}: line 1: ")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert 1 == play(capsys, "--trace", empty, *arguments)[0]
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(b"no gzip")
    assert 1 == play(capsys, "--trace", broken, *arguments)[0]
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(b'{"a": 1}\n' * 999)[:-9])
    assert 1 == play(capsys, "--trace", cut, *arguments)[0]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--load", "0"),
        ("--load", "nan"),
        ("--load", "fast"),
        ("--speeds", "1,,1"),
        ("--speeds", "1,-1"),
        ("--part", "3/2"),
        ("--part", "0/2"),
        ("--part", "half"),
        ("--instances", "0"),
        ("--policy", "rr"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(wrong: tuple[str, str], sessions: Path) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["simulate", "--trace", str(sessions), "--format", "claude-code", "--instances", "2", *wrong])
    assert 2 == exit_.value.code


def test_options_left_out_are_what_a_llama_server_has() -> None:
    parser = cli._parser()
    arguments = parser.parse_args(["simulate", "--trace", "t", "--format", "records", "--instances", "3"])
    options = simulate.options(arguments)
    assert (4, 87_381, False, ()) == (
        options.shape.slots,
        options.shape.ram_tokens,
        options.shape.unified,
        options.shape.factors,
    )
    assert ("ptx", 32, 1.0, 1, None, (1, 1)) == (
        options.policy,
        options.users,
        options.load,
        options.seed,
        options.seconds,
        options.part,
    )


def test_a_broken_word_is_shown_where_errors_go(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    arguments = cli._parser().parse_args(
        ["simulate", "--trace", str(tmp_path), "--format", "mooncake", "--instances", "1"]
    )
    assert 1 == simulate.run(simulate.options(arguments), out=out, err=err)
    assert "" == out.getvalue()
    assert "Is a directory" in err.getvalue()
