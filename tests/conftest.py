"""What every test may ask for. Processes start when first asked for and end with pytest, however it ends."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

import msgspec
import pytest

from router.demo.llama import LlamaProcess, LlamaSpec
from tests.rig import figures, llama, tee
from tests.rig.fake import FakeInstance
from tests.rig.fake_seen import Script
from tests.rig.router import RouterProcess
from tests.rig.start import StartFake, StartLlama, StartRouter


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the router does."""
    return "asyncio"


@pytest.fixture(scope="session")
def smollm2_pair() -> Iterator[llama.Pair]:
    """Two llama-servers with SmolLM2, 2 slots each. Shared by all tests: leave them alive and running."""
    llama.need_llama()
    yield from llama.running_pair(llama.smollm2_spec())


@pytest.fixture(scope="session")
def tiny_pair() -> Iterator[llama.Pair]:
    """Two llama-servers with the tiny model, 4 slots of 32k each. Shared by all tests: leave them alive."""
    llama.need_llama()
    yield from llama.running_pair(llama.tiny_spec())


@pytest.fixture
def start_llama() -> Iterator[StartLlama]:
    """Start a llama-server of the test's own, to kill or suspend: `start_llama(slots=1)`; tiny by default."""
    llama.need_llama()
    with ExitStack() as stack:

        def start(spec: LlamaSpec | None = None, **changes: object) -> LlamaProcess:
            chosen = msgspec.structs.replace(spec or llama.tiny_spec(), **changes)
            process = stack.enter_context(LlamaProcess(chosen))
            process.wait_ready(llama.READY_S)
            return process

        yield start


@pytest.fixture
def start_fake() -> Iterator[StartFake]:
    """Start scripted instances, with FakeInstance's own arguments; they stop with the test."""
    with ExitStack() as stack:
        make: Callable[..., FakeInstance] = FakeInstance

        def start(script: Script = (), **options: object) -> FakeInstance:
            return stack.enter_context(make(script, **options))

        yield start


@pytest.fixture
def start_router() -> Iterator[StartRouter]:
    """Start our router on a registry text and wait until it is ready (`ready=None`: do not wait)."""
    with ExitStack() as stack:

        def start(config: str, *, ready: str | None = "/readyz") -> RouterProcess:
            process = stack.enter_context(RouterProcess(config))
            if ready is not None:
                process.wait_ready(path=ready)
            return process

        yield start


# ------------------------------------------------------------------ after each test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Hold what the tees have seen to the rules, and keep the figures that were told."""
    try:
        yield
    except BaseException as error:
        for found in tee.running_faults():
            error.add_note(str(found))
        raise
    else:
        tee.raise_for(tee.running_faults())
    finally:
        item.user_properties += figures.taken()


# ------------------------------------------------------------------ what people are shown at the end


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that the tests have told, of those that passed too."""
    reports = [it for some in terminalreporter.stats.values() for it in some if isinstance(it, pytest.TestReport)]
    told = [(it.nodeid, text) for it in reports if it.when == "call" for text in figures.read(it)]
    if told:
        terminalreporter.section("figures")
    for name, text in told:
        terminalreporter.write_line(name)
        for line in text.splitlines():
            terminalreporter.write_line(f"  {line}")
