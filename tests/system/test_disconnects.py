"""Clients that hang up leave nothing behind: no lease, no socket, no memory, and no call that waits in an instance.

A thousand of them, on real servers: a third each while they wait for a slot, while their prompt is read, and while
they are being answered. The calls of each round come while the slots of the last are still closing.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from router.demo.llama import LlamaProcess
from tests.rig import llama
from tests.rig.router import RouterProcess, registry
from tests.rig.start import StartLlama, StartRouter
from tests.system.load import Call, Crowd, instances, new_nonce, report, taken, waiting, watching_deferred
from tests.test_app import eventually

SLOTS = 16  # of each of two instances
ROUNDS = 11
A_ROUND = 2 * SLOTS  # of each kind
LONG = "a long way to go before the first word of the answer " * 800  # about 9,600 tokens: seconds to read
SERVED_WITHIN_S = 3.0


@pytest.fixture
def pair(start_llama: StartLlama) -> list[LlamaProcess]:
    spec = llama.tiny_spec(slots=SLOTS, n_ctx_slot=16_384)
    return [start_llama(spec), start_llama(spec)]


@pytest.fixture
def router(pair: list[LlamaProcess], start_router: StartRouter) -> Iterator[RouterProcess]:
    entries = [{"url": it.url, "id": name} for it, name in zip(pair, ("one", "two"), strict=True)]
    router = start_router(registry(entries, log={"level": "warning"}))
    yield router
    assert "Traceback" not in router.log


def test_a_thousand_clients_that_leave_cost_no_slot_no_socket_and_no_memory(
    router: RouterProcess, pair: list[LlamaProcess]
) -> None:
    with Crowd(router.port) as crowd:
        _served_everywhere(crowd, router)
        _round(crowd, router)  # buffers and code that are used for the first time are no leak
        _served_everywhere(crowd, router)
        sockets, rss_bytes = _settled_files(router), router.rss_bytes
        left: Counter[str] = Counter()
        began_s = time.monotonic()
        with watching_deferred(crowd, [it.spec.port for it in pair]) as deferred:
            for _ in range(ROUNDS):
                left += _round(crowd, router)
            took_s = time.monotonic() - began_s
            longest_s = _served_everywhere(crowd, router)
        assert sum(left.values()) >= 1000
        assert min(left.values()) > 250, left
        _until(lambda: (taken(router.url), waiting(router.url)) == (0, 0))
        report(
            f"{sum(left.values())} disconnects in {took_s:.1f} s: {dict(left)}",
            f"requests_deferred: at most {deferred.most} in {deferred.samples} samples",
            f"afterwards every slot served within {longest_s:.2f} s",
        )
    assert deferred.samples > 20
    assert deferred.most == 0
    grown_mib = (router.rss_bytes - rss_bytes) / (1 << 20)
    files = _settled_files(router)
    report(f"open files {sockets} -> {files}, resident memory {grown_mib:+.1f} MiB")
    assert files <= sockets
    assert grown_mib < 8


def _round(crowd: Crowd, router: RouterProcess) -> Counter[str]:
    """Leave while reading, behind those while waiting, and then while being answered; how many really did so."""
    said = [{"role": "user", "content": f"{new_nonce()} {LONG}"}]
    reading = crowd.calls(A_ROUND, messages=said, max_tokens=3000)  # so that no slot comes free by itself
    _until(lambda: _busy(router) == A_ROUND)
    queued = crowd.calls(A_ROUND)
    _until(lambda: waiting(router.url) == A_ROUND)
    _all_leave(queued)
    _all_leave(reading)
    answered = crowd.calls(A_ROUND, max_tokens=4000)
    for call in answered:
        call.wait_for(lambda it: it.content or it.over).leave()
    _all_leave(answered)
    left = [call for call in (*reading, *answered) if not call.whole]  # some say little and are done first
    began = Counter("answered" if call.content else "reading" for call in left)
    return began + Counter(queued=len(queued))


def _all_leave(calls: list[Call]) -> None:
    for call in calls:
        call.leave()
    for call in calls:
        call.ended()


def _busy(router: RouterProcess) -> int:
    return sum(int(row["busy"]) for row in instances(router.url).values())


def _served_everywhere(crowd: Crowd, router: RouterProcess) -> float:
    """As many calls as there are slots, and all of them begin before one ends; the longest wait for a first event."""
    calls = [call.wait_for(lambda it: it.content or it.over) for call in crowd.calls(A_ROUND, max_tokens=4000)]
    assert [call for call in calls if call.over] == []
    _all_leave(calls)
    assert Counter(call.instance for call in calls) == {"one": SLOTS, "two": SLOTS}
    longest_s = max(call.wait_s for call in calls)
    assert longest_s < SERVED_WITHIN_S
    return longest_s


def _until(met: Callable[[], object]) -> None:
    eventually(met, within_s=30)


def _settled_files(router: RouterProcess) -> int:
    """The least that is open for two seconds: looks at the instances come and go, idle connections end after 4 s."""
    due_s = time.monotonic() + 7.0
    least = router.open_files
    while time.monotonic() < due_s:
        time.sleep(0.05)
        least = min(least, router.open_files)
    return least
