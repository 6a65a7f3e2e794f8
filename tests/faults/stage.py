"""One gateway, and for every run a faulty provider and a healthy one with prices, a key and a budget of their own.

Runs go on side by side: most of each is waiting for a clock.
"""

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from starlette.types import Receive, Scope, Send

from llm_gateway.domain.limits import Scope as LimitScope
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.pipeline.clock import Clock
from tests.fakes.faulty_upstream import FaultyUpstream, Play, Seen, Steps
from tests.fakes.faulty_wires import WIRES, Wire
from tests.fakes.gateway_app import GatewayApp
from tests.faults.answers import Got, ask
from tests.faults.case import CONNECT_S, FIRST_TOKEN_S, IDLE_S, TOTAL_S, Case, Expect, Mode
from tests.faults.plays import Behaviour, healthy

AT_ONCE = 20
"""Runs that go on at the same time."""
PRICES = {"p": (1, 10), "s": (2, 20)}
"""US dollars per million tokens of input and output, of the primary and of the spare: a bill says who wrote it."""
LEFT_WITHIN_S = 4.0
"""A call that the caller no longer waits for is over by then."""


@dataclass(frozen=True)
class Run:
    """A case on one wire, buffered or streamed, with a fallback or without."""

    case: Case
    wire: Wire
    mode: Mode
    spared: bool
    number: int = 0

    @property
    def expected(self) -> Expect:
        found = self.case.spared if self.spared else self.case.alone
        assert found is not None
        return found

    @property
    def id(self) -> str:
        return f"{self.case.name}/{self.wire.dialect}/{self.mode}/{'spared' if self.spared else 'alone'}"

    @property
    def key(self) -> str:
        return f"sk-run-{self.number}-secret"

    @property
    def scope(self) -> LimitScope:
        return LimitScope("key", f"run-{self.number}")


@dataclass(frozen=True)
class Result:
    run: Run
    got: Got
    primary: Sequence[Seen]
    spare: Sequence[Seen]
    record: RequestRecord | None
    after: Got
    """A healthy call on the same key."""
    holds: int
    in_flight: int
    unfinished: int
    """Calls that a provider still had some time after the caller had its answer."""


def runs_of(cases: Sequence[Case]) -> list[Run]:
    every = [
        Run(case, wire, mode, spared)
        for case in cases
        for wire in WIRES
        if wire.dialect in case.dialects
        for mode in case.modes
        for spared in (False, True)
        if (case.spared if spared else case.alone) is not None
    ]
    return [Run(run.case, run.wire, run.mode, run.spared, number) for number, run in enumerate(every)]


class Stage:
    """The gateway and its providers. `play` makes the runs; `leaks` says at the end what was left behind."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.upstream = FaultyUpstream()
        self._full: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        self.upstream.__enter__()
        for wire in WIRES:
            self.upstream.serve(f"well-{wire.dialect}", _play(wire, healthy))
        config = "\n".join([*map(self._well, WIRES), *map(self._config, self.runs)])
        self.app = GatewayApp(config, clock=Clock())
        self._watch_loop()
        self.app.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.app.__exit__(kind, error, at)
        for each in self._full:
            each.close()
        self.upstream.__exit__(kind, error, at)

    def play(self) -> dict[str, Result]:
        """By the runs' ids."""
        return {result.run.id: result for result in asyncio.run(self._play_all())}

    def leaks(self) -> list[str]:
        """Tasks of the gateway's loop, and connections that nobody has given back."""
        deadline = time.monotonic() + LEFT_WITHIN_S
        while (found := self._leaks()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    # -- configuration -------------------------------------------------------------------------------------------

    def _well(self, wire: Wire) -> str:
        return _provider(f"well-{wire.dialect}", wire, self.upstream.url(f"well-{wire.dialect}"), "p", prefill=False)

    def _config(self, run: Run) -> str:
        case, number = run.case, run.number
        for letter, behaviour in (("p", case.play), ("s", case.spare)):
            self.upstream.serve(f"{letter}{number}", _play(run.wire, behaviour), own_port=case.where == "own port")
        parts = [
            _provider(f"p{number}", run.wire, self._primary_url(run), "p", prefill=case.prefill),
            _provider(f"s{number}", run.wire, self.upstream.url(f"s{number}"), "s", prefill=case.prefill),
            _model(run, f"run-{number}", f"p{number}", fallback=f"spare-{number}" if run.spared else None),
            _model(run, f"spare-{number}", f"s{number}", fallback=None),
            f'[keys.run-{number}]\nkey = "{run.key}"\nbudget = {{ usd = "1", period = "total" }}',
            "limits = { parallel = 3 }",
        ]
        return "\n".join(parts)

    def _primary_url(self, run: Run) -> str:
        match run.case.where:
            case "refusing":
                return self.upstream.refusing_url(f"p{run.number}")
            case "not accepting":
                return f"http://127.0.0.1:{self._full_port()}/p{run.number}"
            case _:
                return self.upstream.url(f"p{run.number}")

    def _full_port(self) -> int:
        """Of a listener with a full backlog, which neither accepts nor refuses."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        self._full += [listener, *fillers]
        port: int = listener.getsockname()[1]
        return port

    # -- runs ----------------------------------------------------------------------------------------------------

    async def _play_all(self) -> list[Result]:
        turns = asyncio.Semaphore(AT_ONCE)
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=self.app.base_url, timeout=30, limits=limits) as client:
            for wire in WIRES:  # what is imported late is imported now, and every clock starts alike
                await self._ask(client, f"well-{wire.dialect}:m", "stream", self.app.auth)

            async def play(run: Run) -> Result:
                async with turns:
                    return await self._play(client, run)

            light = await asyncio.gather(*(play(run) for run in self.runs if not run.case.heavy))
            return [*light, *[await self._play(client, run) for run in self.runs if run.case.heavy]]

    async def _play(self, client: httpx.AsyncClient, run: Run) -> Result:
        auth = {"authorization": f"Bearer {run.key}"}
        before = 0
        if run.case.warm:
            await self._ask(client, f"run-{run.number}", run.mode, auth)
            before = len(self.upstream.seen(f"p{run.number}"))
        got = await self._ask(client, f"run-{run.number}", run.mode, {**auth, **run.case.headers})
        record = await self._record(got.request_id)
        after = await self._ask(client, f"well-{run.wire.dialect}:m", run.mode, auth)
        primary = self.upstream.seen(f"p{run.number}")[before:]
        spare = self.upstream.seen(f"s{run.number}")
        unfinished = await self._unfinished([*primary, *spare])
        await self._record(after.request_id)
        holds, in_flight = await self._held(run.scope)
        return Result(run, got, primary, spare, record, after, holds, in_flight, unfinished)

    async def _ask(self, client: httpx.AsyncClient, model: str, mode: Mode, headers: dict[str, str]) -> Got:
        return await ask(client, model, mode, headers)

    async def _record(self, request_id: str) -> RequestRecord | None:
        """The ledger's, once it has ended; None where that takes too long."""
        deadline = time.monotonic() + LEFT_WITHIN_S
        while time.monotonic() < deadline:
            found = self.app.ledger.records.get(request_id)
            if found is not None and found.status != "open":
                assert isinstance(found, RequestRecord)
                return found
            await asyncio.sleep(0.01)
        return None

    async def _held(self, scope: LimitScope) -> tuple[int, int]:
        """Holds, and requests in flight, once there are none; what is left where that takes too long."""
        deadline = time.monotonic() + LEFT_WITHIN_S
        while True:
            holds = len(await self.app.scopes.holds(scope))
            in_flight = (await self.app.scopes.level(scope, 0, ())).in_flight
            if (not holds and not in_flight) or time.monotonic() > deadline:
                return holds, in_flight
            await asyncio.sleep(0.01)

    async def _unfinished(self, calls: Sequence[Seen]) -> int:
        deadline = time.monotonic() + LEFT_WITHIN_S
        for call in calls:
            await asyncio.to_thread(call.over.wait, deadline - time.monotonic())
        return sum(not call.over.is_set() for call in calls)

    # -- leaks ---------------------------------------------------------------------------------------------------

    def _watch_loop(self) -> None:
        app = self.app.app

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            self._loop = asyncio.get_running_loop()
            await app(scope, receive, send)

        self.app._server.config.app = watched

    def _leaks(self) -> list[str]:
        if self._loop is None:
            return []
        tasks = [repr(task) for task in _tasks_of(self._loop) if not _is_servers(task)]
        busy = [repr(each) for origin in self.app.client._network._origins.values() for each in origin.busy]
        return [f"a task: {each}" for each in tasks] + [f"a connection: {each}" for each in busy]


def _play(wire: Wire, behaviour: Behaviour) -> Play:
    def play(seen: Seen) -> Steps:
        return behaviour(wire, seen)

    return play


def _provider(name: str, wire: Wire, url: str, letter: str, *, prefill: bool) -> str:
    price_in, price_out = PRICES[letter]
    quirks = 'quirks = { prefill = "plain" }' if prefill else ""
    return f"""
[providers.{name}]
dialect = "{wire.dialect}"
base_url = "{url}{wire.prefix}"
credential = "none"
{quirks}
[prices."{name}:m"]
input = "{price_in}"
output = "{price_out}"
"""


def _model(run: Run, name: str, provider: str, *, fallback: str | None) -> str:
    times = {"connect_s": CONNECT_S, "first_token_s": FIRST_TOKEN_S, "idle_s": IDLE_S, "total_s": TOTAL_S}
    told = ", ".join(f"{key} = {value}" for key, value in {**times, **run.case.timeouts}.items())
    return f"""
[models.{name}]
deployments = [{{ provider = "{provider}", model = "m" }}]
timeouts = {{ {told} }}
stream_recovery = "{run.case.recovery}"
{f'{run.case.chain} = ["{fallback}"]' if fallback else ""}
"""


def _tasks_of(loop: asyncio.AbstractEventLoop) -> set["asyncio.Task[Any]"]:
    async def tasks() -> set["asyncio.Task[Any]"]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    return asyncio.run_coroutine_threadsafe(tasks(), loop).result(10)


def _is_servers(task: "asyncio.Task[Any]") -> bool:
    """uvicorn's own, and Starlette's lifespan."""
    name = getattr(task.get_coro(), "__qualname__", "")
    return name.startswith(("Server.", "LifespanOn."))
