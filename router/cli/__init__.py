"""The command line: parse, call, print. Each command has a file of its own."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from router import __version__

_DEFAULT_CONFIG = Path("router.yaml")
_EXAMPLES = """examples:
  llama-router init http://gpu1:8080 http://gpu2:8080 > router.yaml
  llama-router check router.yaml
  llama-router serve --config router.yaml
  llama-router status
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 could not, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    # Each command imports what it needs when it is called: --help and check start at once.
    match arguments.command:
        case "serve":
            from router.cli import serve

            return serve.run(arguments.config, listen=arguments.listen, err=sys.stderr, env=os.environ)
        case "check":
            from router.cli import check

            return check.run(arguments.file, out=sys.stdout, err=sys.stderr, env=os.environ)
        case "init":
            from router.cli import init

            name = arguments.api_key_env
            return init.run(
                arguments.urls, out=sys.stdout, err=sys.stderr, api_key=os.environ.get(name), api_key_env=name
            )
        case "status":
            from router.cli import status

            return status.run(arguments.router, key=_admin_key(), out=sys.stdout, err=sys.stderr)
        case "drain" | "resume":
            from router.cli import operate

            return operate.order(
                arguments.command, arguments.name, arguments.router, key=_admin_key(), out=sys.stdout, err=sys.stderr
            )
        case "reload":
            from router.cli import operate

            return operate.reload(arguments.router, key=_admin_key(), out=sys.stdout, err=sys.stderr)
        case "explain":
            from router.cli import explain

            return explain.run(explain.options(arguments), key=_admin_key(), out=sys.stdout, err=sys.stderr)
        case "simulate":
            from router.cli import simulate

            return simulate.run(simulate.options(arguments), out=sys.stdout, err=sys.stderr)
        case _:
            from router.demo import run as demo

            return demo.run(port=arguments.port, out=sys.stdout, instances=arguments.instances, once=arguments.once)


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}")
        return int(text)

    return number


def _admin_key() -> str | None:
    return os.environ.get("LLAMA_ROUTER_KEY")


def _add_operators_verbs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    status = commands.add_parser(
        "status", help="show the fleet of a running router", description="Instances, state, busy slots and queue."
    )
    drain = commands.add_parser(
        "drain",
        help="let an instance or a host finish what runs and take no more",
        description="Take no more calls there, and wait until what runs is finished; then it may be stopped.",
    )
    resume = commands.add_parser(
        "resume", help="end a drain", description="Let a drained instance or host take calls again."
    )
    reload = commands.add_parser(
        "reload",
        help="have a running router read its registry again",
        description="Follow the changed registry, whole or not at all. SIGHUP and a change of the file do the same.",
    )
    for verb in (drain, resume):
        verb.add_argument("name", metavar="INSTANCE|HOST", help="an id or a host of llama-router status")
    for verb in (status, drain, resume, reload, _add_explain(commands)):
        verb.add_argument(
            "--router",
            default="http://127.0.0.1:8000",
            metavar="URL",
            help="where it answers (default: %(default)s); from another machine, $LLAMA_ROUTER_KEY is an admin key",
        )


def _add_explain(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    explain = commands.add_parser(
        "explain",
        help="say where a request would go and why, and send nothing",
        description="Show how a running router would place a request, with the cost of each instance in seconds.",
    )
    add = explain.add_argument
    add(
        "file", metavar="REQUEST.json", help="a request's body, or a capture with headers and body; - is standard input"
    )
    add("--line", type=_between(1, 10**9), metavar="N", help="of a capture with one request on each line")
    add("--chat", action="store_true", help="the body is of chat completions (default: of the Messages API)")
    add("--session", metavar="ID", help="ask for a turn of this session, whatever the request says")
    add("--model", metavar="NAME", help="ask for this model, whatever the request says")
    add("--json", action="store_true", help="the router's answer as JSON")
    return explain


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError("must be a number above 0")
    return number


def _factors(text: str) -> tuple[float, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _part(text: str) -> tuple[int, int]:
    which, _, count = text.partition("/")
    if not (which.isdigit() and count.isdigit() and 1 <= int(which) <= int(count)):
        raise argparse.ArgumentTypeError("must be like 1/2: the first of two halves")
    return int(which), int(count)


def _add_simulate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    simulate = commands.add_parser(
        "simulate",
        help="play a trace, or a log of the router, onto a fleet that does not exist",
        description="Send a trace's calls through the real queue and placement to modelled llama-servers.",
    )
    add = simulate.add_argument
    add("--trace", type=Path, required=True, metavar="FILE", help="the trace; .gz is read, too")
    add(
        "--format",
        required=True,
        choices=("claude-code", "mooncake", "records"),
        help="what it is: sessions, Mooncake's requests, or this router's own log",
    )
    add("--instances", type=_between(1, 1024), required=True, metavar="N", help="how many llama-servers")
    add("--policy", choices=("ptx", "least", "sticky"), default="ptx", help="default: %(default)s")
    add(
        "--users", type=_between(1, 10_000), default=32, metavar="U", help="claude-code: how many at once (default: 32)"
    )
    add("--load", type=_positive, default=1.0, metavar="X", help="others: times the trace's rate (default: 1)")
    add("--seed", type=_between(0, 2**63), default=1, metavar="S", help="of the dice (default: %(default)s)")
    add("--json", action="store_true", help="the figures as JSON")
    add("--slots", type=_between(1, 256), default=4, metavar="N", help="of each instance (default: %(default)s)")
    add("--cache-ram", type=_between(0, 2**24), default=8192, metavar="MIB", help="as llama-server's (default: 8192)")
    add("--kv-kib", type=_positive, default=96.0, metavar="KIB", help="KV of one token (default: 96)")
    add("--unified", action="store_true", help="started with --kv-unified, or without --parallel")
    add("--speeds", type=_factors, default=(), metavar="A,B,...", help="relative speeds, 1,1,0.5; in turn")
    add("--seconds", type=_positive, metavar="S", help="how long calls come (claude-code: 4800; else all of it)")
    add("--part", type=_part, default=(1, 1), metavar="K/N", help="claude-code: every Nth session, from the Kth on")
    add("--pool", default="", metavar="NAME", help="records: the calls of this model")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="llama-router",
        description="One Messages API endpoint in front of many llama-servers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"llama-router {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="answer calls", description="Answer calls until told to stop.")
    serve.add_argument(
        "--config",
        type=Path,
        default=_DEFAULT_CONFIG,
        metavar="FILE",
        help="the registry (default: %(default)s)",
    )
    serve.add_argument("--listen", metavar="HOST:PORT", help="instead of the registry's own address")

    check = commands.add_parser(
        "check",
        help="say what a registry would run, or what is wrong in it",
        description="Print what would run; or every error with file, line, column and fix, and exit with 1.",
    )
    check.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=_DEFAULT_CONFIG,
        metavar="FILE",
        help="the registry (default: %(default)s)",
    )

    init = commands.add_parser(
        "init",
        help="write a registry from running llama-servers",
        description="Ask running llama-servers what they serve and print a commented registry.",
    )
    init.add_argument(
        "urls",
        nargs="*",
        metavar="URL",
        help="llama-servers, such as http://gpu1:8080 (default: ports 8080 to 8090 here)",
    )
    init.add_argument(
        "--api-key-env",
        metavar="NAME",
        default="LLAMA_API_KEY",
        help="environment variable that holds their key (default: %(default)s)",
    )

    _add_operators_verbs(commands)
    _add_simulate(commands)

    demo = commands.add_parser(
        "demo",
        help="two real llama-servers and a router on this machine",
        description="Start two small llama-servers and a router in front of them, until Ctrl-C.",
    )
    demo.add_argument("--port", type=_between(1, 65535), default=8000, help="the router's port (default: %(default)s)")
    demo.add_argument(
        "--instances", type=_between(1, 16), default=2, help="how many llama-servers (default: %(default)s)"
    )
    demo.add_argument("--once", action="store_true", help="stop after the first calls")
    return parser
