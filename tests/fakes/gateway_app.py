"""The gateway's app over in-memory stores, served over real HTTP from a thread: quick to make, one for each test.

with GatewayApp(config=CONFIG, secrets={"corp": "sk-corp"}) as app:
    httpx.post(f"{app.base_url}/chat/completions", headers=app.auth, json=…)
    app.record(answer.headers["x-request-id"])
"""

import asyncio
import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import uvicorn

from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.memory import MemoryAnswers, MemoryLedger, MemoryRegistry, MemorySecrets
from llm_gateway.adapters.memory_conversations import MemoryConversations
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.adapters.memory_totals import MemoryTotals
from llm_gateway.bootstrap import Stores, UsageStores, assemble
from llm_gateway.catalog.config import entries, keys, parse_config
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.domain.ports import HealthStore, LostSettlements
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.local.serve import KEEP_ALIVE_S
from llm_gateway.observability.logs import RequestLog, open_logger
from llm_gateway.pipeline.clock import Clock
from llm_gateway.settings import Settings
from llm_gateway.upstream.authorize import Authorizer
from llm_gateway.upstream.client import open_client

KEY = "sk-test-admin"


async def _short_sleep(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.01))


BRISK = Clock(sleep=_short_sleep)
"""Waits hardly at all between attempts; its timeouts are real."""


class GatewayApp:
    """`secrets` are by provider, or by `team/provider`; `overrides` go to `Settings`. Its stores can be reached into."""

    def __init__(
        self,
        config: str = "",
        *,
        secrets: Mapping[str, str] | None = None,
        ledger: Any = None,
        answers: Any = None,
        scopes: Any = None,
        lost: LostSettlements | None = None,
        health: HealthStore | None = None,
        conversations: Any = None,
        authorizers: Mapping[str, Authorizer] | None = None,
        clock: Clock | None = None,
        **overrides: Any,
    ) -> None:
        parsed = parse_config(config, "gateway.toml")
        admin = VirtualKey(lookup_id(KEY), "admin", hash_key(KEY), role="admin")
        self.ledger = MemoryLedger() if ledger is None else ledger
        self.answers = MemoryAnswers() if answers is None else answers
        self.scopes = MemoryScopes() if scopes is None else scopes
        self.conversations = MemoryConversations() if conversations is None else conversations
        self.secret_store = MemorySecrets(
            {
                f"llm-gateway/team/{name}" if "/" in name else f"llm-gateway/provider/{name}": secret
                for name, secret in (secrets or {}).items()
            }
        )
        registry = MemoryRegistry(entries(parsed), [admin, *(key for _, key in keys(parsed))])
        self.totals = MemoryTotals(self.ledger)
        stores = Stores(
            CachedRegistry(registry),
            self.ledger,
            CachedSecrets(self.secret_store),
            self.answers,
            self.scopes,
            lambda: UsageStores(self.totals, self.ledger),
            None if lost is None else lambda: lost,
            health=None if health is None else lambda: health,
            conversations=lambda: self.conversations,
        )
        log = RequestLog(open_logger("ERROR", "text"))
        self.client = open_client()
        self.app = assemble(Settings(**overrides), stores, self.client, log, authorizers, clock or BRISK)
        # By its protocol's name, by which asyncio knows to switch Nagle's algorithm off: 40 ms for every kept-alive request.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.root = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.base_url = f"{self.root}/v1"
        self.auth = {"Authorization": f"Bearer {KEY}"}
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                http="h11",
                loop="asyncio",
                log_config=None,
                access_log=False,
                # As `make run` has it: with uvicorn's 5 s, which are httpx's too, both ends let go at the same moment.
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def record(self, request_id: str, *, seconds: float = 5.0) -> RequestRecord:
        """The ledger's record once it is no longer open."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.ledger.records.get(request_id)
            if found is not None and found.status != "open":
                assert isinstance(found, RequestRecord)
                return found
            time.sleep(0.005)
        raise AssertionError(f"{request_id} is still open, or was never written")

    def only_record(self, *, seconds: float = 5.0) -> RequestRecord:
        """The one record there is, for calls that never got an answer to read its id from."""
        deadline = time.monotonic() + seconds
        while not self.ledger.records and time.monotonic() < deadline:
            time.sleep(0.005)
        (request_id,) = self.ledger.records
        return self.record(request_id, seconds=seconds)

    def shut_down(self, *, grace_s: float) -> None:
        """Begins to stop: what still runs after that many seconds is cancelled, as by Lambda's SIGTERM."""
        self._server.config.timeout_graceful_shutdown = grace_s  # type: ignore[assignment] # whole seconds, by its type
        self._server.should_exit = True

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join(15)
        self._socket.close()
