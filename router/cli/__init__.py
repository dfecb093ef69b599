"""The command line: parse, call, print. Each command has a file of its own."""

import argparse
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
    for verb in (status, drain, resume, reload):
        verb.add_argument(
            "--router",
            default="http://127.0.0.1:8000",
            metavar="URL",
            help="where it answers (default: %(default)s); from another machine, $LLAMA_ROUTER_KEY is an admin key",
        )


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
