from pathlib import Path

from benchmarks.replay import report
from benchmarks.replay.report import Front, Report, Result, Setup
from benchmarks.replay.rows import Visit
from benchmarks.replay.strand import Size
from benchmarks.visits import Spread


def made(*results: Result, failure: str = "") -> Report:
    return Report(
        date="2026-01-01",
        machine="a CPU, 2 cores",
        cores=2,
        setup=Setup(
            trace="t.gz", split="held-out", sessions=7, longest_tokens=72_000, seed=1, rounds=3, warm_s=12.0,
            window_s=40.0, servers=4, slots=2, size=Size(),
        ),
        fronts=[Front(name="llama-router-ptx", version="1", path="/v1/messages", on="keys", failure=failure)],
        results=list(results),
        visits=[Visit(name="x", round=0, users=1, cache_ram_mib=0, window_s=1.0, rows=[], others=0.07)],
    )  # fmt: skip


def result(name: str, users: int, ram: int, **values: float) -> Result:
    spreads = {key: Spread(median=value, low=value * 0.5, high=value * 2) for key, value in values.items()}
    return Result(name=name, users=users, cache_ram_mib=ram, figures=spreads)


REPORT = made(
    result("llama-router-ptx", 6, 0, ttft_mean_s=1.25, turns=40, foreseen=0.75, ideal=0.9, prompt_tokens=5000),
    result("haproxy-leastconn", 6, 0, ttft_mean_s=2.25, turns=30),
    result("llama-router-ptx", 16, 8, ttft_mean_s=3.25, ttft_p95_s=5.0, turns=20),
)


def test_each_load_has_a_table_with_what_was_measured() -> None:
    text = report.markdown(REPORT)
    assert [(6, 0), (16, 8)] == report.loads(REPORT)
    assert "## 6 users, 0 MiB of prompt cache in RAM: prompts of 5,000 tokens, 0.90 of them read before" in text
    assert "| llama-router-ptx | 1.25 (0.62 - 2.50) | 40 (20 - 80) | 0.750 (0.375 - 1.500) |" in text
    assert "| haproxy-leastconn | 2.25 (1.12 - 4.50) | 30 (15 - 60) |  |" in text
    assert "## 16 users, 8 MiB" in text


def test_it_says_that_all_share_the_cores() -> None:
    text = report.markdown(REPORT)
    assert "**share 2 cores**; others took up to 7% of the machine" in text
    assert "7 held-out sessions of t.gz" in text


def test_what_did_not_come_up_is_told() -> None:
    assert "- llama-router-ptx: no answer" in report.markdown(made(failure="no answer"))


def test_the_picture_is_drawn_where_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    if report.picture(REPORT, path):
        assert path.read_bytes().startswith(b"\x89PNG")
    assert not report.picture(made(), tmp_path / "nothing.png")
