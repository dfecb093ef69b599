"""`llama-router demo`: two real llama-servers and the router before them on this machine, until Ctrl-C."""

import errno
import importlib.util
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TextIO

import httpx

from router.demo import calls
from router.demo.fleet import CLIENT_MODEL, SLOT_TOKENS, SLOTS, Fleet
from router.demo.process import StartError

QUESTION = "In one sentence, what is a llama?"
LOOK_EVERY_S = 0.5


class _ToldToStop(BaseException):
    """SIGINT or SIGTERM came; not an Exception, so that nothing between here and `run` takes it for one."""


def run(*, port: int = 8000, out: TextIO, instances: int = 2, once: bool = False) -> int:
    """Start the fleet, show that it works, and stay up; no process is left behind, however this ends.

    0: told to stop, or `once` and the first calls were answered. 1: could not, and `out` says why.
    """

    def say(text: str = "") -> None:
        print(text, file=out, flush=True)

    try:
        with _signals_stop_us():
            _check_port(port)
            _check_installed()
            say(f"Starting {instances} llama-servers with SmolLM2-135M and the router:")
            with Fleet(port=port, instances=instances, say=say) as fleet:
                _show(fleet, out)
                if not once:
                    _explain(fleet, out)
                    _stay_up(fleet)
    except _ToldToStop:
        say("Stopped; nothing is left running.")
    except (StartError, FileNotFoundError, httpx.HTTPError) as error:
        say(f"The demo ends: {error}")
        return 1
    return 0


def _check_installed() -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        raise StartError("llama.cpp's server is not installed. `make demo` does it; or: pip install xllamacpp")


def _check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        why = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        other = port + 1 if 1024 <= port < 65535 else 8001
        raise StartError(f"port {port} {why}. Try another: {command()} demo --port {other}") from None


def _show(fleet: Fleet, out: TextIO) -> None:
    """One streamed call, then enough calls at once that every instance has to serve one."""
    print(f"\n> {QUESTION}", file=out, flush=True)
    served_by = calls.streamed(fleet.url, QUESTION, lambda piece: print(piece, end="", file=out, flush=True))
    print(f"\n(streamed by {served_by})\n", file=out, flush=True)
    for count in (len(fleet.llamas), len(fleet.llamas) * SLOTS):
        served = calls.concurrently(fleet.url, count)
        print(f"{count} calls at once were served by: {', '.join(served)}", file=out, flush=True)
        if set(served) == set(fleet.llamas):
            return
    raise StartError(f"only {', '.join(sorted(set(served)))} ever served a call.{fleet.router.tail()}")


def _explain(fleet: Fleet, out: TextIO) -> None:
    pid = next(iter(fleet.llamas.values())).pid
    text = f"""
Ask it yourself:
  {calls.curl(fleet.url)}

See the fleet:             {command()} status --router {fleet.url}
Watch it lose an instance: kill -9 {pid}

Claude Code finds it with these settings:
  export ANTHROPIC_BASE_URL={fleet.url}
  export ANTHROPIC_AUTH_TOKEN=anything
  export ANTHROPIC_MODEL={CLIENT_MODEL}
That tries the plumbing only: a model of 135 million parameters writes no code, and it reads at most
{SLOT_TOKENS:,} tokens, while Claude Code's own instructions take about 15,000. So expect "prompt is too long".
List llama-servers with a coding model in a registry of your own: {command()} init http://HOST:PORT

Ctrl-C stops everything.
"""
    print(text, file=out, flush=True)


def _stay_up(fleet: Fleet) -> None:
    never = threading.Event()
    while not never.wait(LOOK_EVERY_S):
        fleet.check()


@contextmanager
def _signals_stop_us() -> Iterator[None]:
    """Raise _ToldToStop in here at the first SIGINT or SIGTERM; later ones do not disturb the cleaning up."""

    def stop(*_: object) -> NoReturn:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise _ToldToStop

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def command() -> str:
    """How this program was called, so that what is printed can be typed: it may not be on the PATH."""
    name = Path(sys.argv[0])
    return str(name) if name.name == "llama-router" else "llama-router"
