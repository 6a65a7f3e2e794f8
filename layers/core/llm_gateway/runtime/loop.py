"""The process's life: restore from a snapshot, N pollers in one event loop, SIGTERM."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson

from llm_gateway.runtime.config import RuntimeConfig
from llm_gateway.runtime.cycle import App, Cycle, Deadline
from llm_gateway.runtime.events import UnsupportedEvent, request_of, takes_multi_value_headers
from llm_gateway.runtime.rapid import Invocation, PollingStopped, RuntimeApi, RuntimeApiFailed, StreamedResponse

log = logging.getLogger(__name__)

LAST_WORDS_S = 1.0
"""What a cancelled app has, after SIGTERM's bound is over, to send its error and settle."""


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """The managed runtime's context object, as far as an HTTP app can use it."""

    aws_request_id: str
    invoked_function_arn: str
    deadline_ms: int
    function_name: str
    function_version: str
    memory_limit_in_mb: int
    log_group_name: str
    log_stream_name: str
    identity: None = None
    client_context: None = None

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self.deadline_ms - int(time.time() * 1000))


class Runtime:
    """Serves `app` until `stop` is called. `environ` is where the X-Ray SDK and its like look for the trace id."""

    def __init__(self, app: App, config: RuntimeConfig, environ: MutableMapping[str, str]) -> None:
        self._app = app
        self._config = config
        self._environ = environ
        self._pollers = [RuntimeApi(config.host, config.port) for _ in range(config.concurrency)]
        self._running: set[Cycle] = set()
        self._abandoned: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def restore(self) -> None:
        """SnapStart: the app prepares for the snapshot, then the process waits to be woken in a copy of itself.

        Raises `HookFailed`, `PollingStopped` and `RuntimeApiFailed`.
        """
        await self._hook("before_snapshot")
        await self._pollers[0].restore_next()
        # Every environment made from the snapshot would draw the same numbers.
        random.seed()
        await self._hook("after_restore")

    async def serve(self) -> None:
        """Returns after `stop`, when what was under way is over.

        Raises `RuntimeApiFailed` where only a new process can help, and `HookFailed` if the app could not be closed.
        """
        workers = [asyncio.create_task(self._work(poller)) for poller in self._pollers]
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for worker in workers:
                if worker.done():
                    worker.result()
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        await self._hook("aclose")

    def stop(self) -> None:
        """No further event is fetched; those under way have `drain_s` to end, then their apps are cancelled."""
        if self._stopping:
            return
        self._stopping = True
        log.info("stopping; %d under way", len(self._running))
        for poller in self._pollers:
            poller.stop_polling()
        loop = asyncio.get_running_loop()
        loop.call_later(self._config.drain_s, self._expire_all)

    def _expire_all(self) -> None:
        for cycle in self._running:
            cycle.expire("shutting_down")
            asyncio.get_running_loop().call_later(LAST_WORDS_S, cycle.give_up)

    async def _hook(self, name: str) -> None:
        hook: Callable[[], Any] | None = getattr(self._app, name, None)
        if hook is None:
            return
        try:
            await hook()
        except Exception as error:
            raise HookFailed(name) from error

    async def _work(self, poller: RuntimeApi) -> None:
        try:
            while not self._stopping:
                try:
                    invocation = await poller.next()
                except PollingStopped:
                    break
                await self._handle(poller, invocation)
        finally:
            poller.close()

    async def _handle(self, poller: RuntimeApi, invocation: Invocation) -> None:
        if self._config.concurrency == 1:
            # One variable cannot name the segments of several requests; then the scope's header is the only source.
            if invocation.trace_id:
                self._environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
            else:
                self._environ.pop("_X_AMZN_TRACE_ID", None)
        try:
            event = orjson.loads(invocation.event)
            scope, body = request_of(event, self._context(invocation), invocation.trace_id)
        except (orjson.JSONDecodeError, UnsupportedEvent) as error:
            log.warning("not an HTTP event: %s", error, extra={"aws_request_id": invocation.request_id})
            message = "The event is not one of an HTTP front end."
            await poller.invocation_error(invocation, "Runtime.UnsupportedEvent", message)
            return
        scope["extensions"] = {
            "llm_gateway.no_disconnect": {},
            "llm_gateway.deadline": {"unix_ms": invocation.deadline_ms},
        }
        response = poller.response(invocation)
        cycle = Cycle(
            scope, body, response, multi_value=takes_multi_value_headers(event), request_id=invocation.request_id
        )
        await self._run(poller, invocation, cycle, response)

    async def _run(self, poller: RuntimeApi, invocation: Invocation, cycle: Cycle, response: StreamedResponse) -> None:
        config = self._config
        deadline = Deadline(invocation.deadline_ms, config.deadline_margin_s, config.deadline_reserve_s)
        self._running.add(cycle)
        try:
            stuck = await cycle.run(self._app, deadline)
        except OSError as error:
            log.warning("the response could not be begun: %s", error, extra={"aws_request_id": invocation.request_id})
            await self._report(poller, invocation)
            return
        finally:
            self._running.discard(cycle)
        if stuck is not None:
            self._abandon(stuck)
        await response.confirm()

    async def _report(self, poller: RuntimeApi, invocation: Invocation) -> None:
        try:
            await poller.invocation_error(invocation, "Runtime.ResponseFailed", "The response could not be sent.")
        except OSError as error:
            raise RuntimeApiFailed("neither a response nor an error could be sent") from error

    def _abandon(self, task: asyncio.Task[None]) -> None:
        """An app that ignores its cancellation must not hold up the next event."""
        log.error("the app did not end within its grace; going on without it")
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    def _context(self, invocation: Invocation) -> LambdaContext:
        config = self._config
        return LambdaContext(
            aws_request_id=invocation.request_id,
            invoked_function_arn=invocation.function_arn,
            deadline_ms=invocation.deadline_ms,
            function_name=config.function_name,
            function_version=config.function_version,
            memory_limit_in_mb=config.memory_limit_mb,
            log_group_name=config.log_group,
            log_stream_name=config.log_stream,
        )


class HookFailed(Exception):
    """One of the app's hooks raised; `hook` is its name."""

    def __init__(self, hook: str) -> None:
        super().__init__(f"the app's {hook} failed")
        self.hook = hook
