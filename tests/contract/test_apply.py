"""`apply` on real engines: killed at any step, the registry is the old file or the new one, and the audit says which."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_audit import DynamoDBAuditTrail
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.admin.draft import entries_of
from llm_gateway.catalog.exported import exported_file
from llm_gateway.domain.audit import AuditFilter
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.domain.revisions import Snapshot
from tests.contract.apply_process import COUNT, file
from tests.contract.conftest import create_registry_table, engine_url
from tests.fakes.admin_app import ADMIN, AdminApp

Moment = Literal["before", "after"]
MOMENTS: tuple[Moment, Moment] = ("before", "after")
KILLS = 4


@dataclass
class DyingClient:
    """An engine's client whose process dies at its `step`th call: before it is sent, or before its answer is heard.

    Nothing of that process comes any more, so its calls wait for ever.
    """

    inner: AwsJsonClient
    step: int
    moment: Moment
    calls: int = 0
    under_way: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, operation: str, payload: Mapping[str, Any], **options: Any) -> Any:
        at, self.calls = self.calls, self.calls + 1
        if at > self.step or (at == self.step and self.moment == "before"):
            await self._die(at)
        self.under_way += 1
        answer = await self.inner.call(operation, payload, **options)
        self.under_way -= 1
        self.arrived.set()
        if at == self.step:
            await self._die(at)
        return answer

    async def _die(self, at: int) -> None:
        if at == self.step:
            self.dead.set()
        await asyncio.Event().wait()


async def until_death(client: DyingClient, work: Coroutine[Any, Any, int]) -> int | None:
    """What the work came to; None where its process died over it."""
    task, death = asyncio.ensure_future(work), asyncio.ensure_future(client.dead.wait())
    async with asyncio.timeout(60):
        await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
        while client.under_way:  # what had left the process arrives
            client.arrived.clear()
            await client.arrived.wait()
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        return None
    death.cancel()
    return task.result()


def word_of(snapshot: Snapshot) -> str:
    """`old` or `new`: the one word that a whole configuration says everywhere. A mix is of neither."""
    found = exported_file(entries_of(snapshot), snapshot.keys())
    found["keys"].pop("admin", None)
    word = str(found["default_model"])
    assert found == file(word), "neither the old file nor the new one"
    assert len({key.name for key in list(snapshot.keys())} - {"admin"}) == COUNT
    return word


async def apply(app: AdminApp, word: str) -> int:
    return (await app.call("POST", "/admin/apply?prune=true", file(word), etag="*")).status_code


async def test_dead_at_any_call_it_is_the_old_file_or_the_new_one(dynamodb: AwsJsonClient) -> None:
    table = await create_registry_table(dynamodb)
    trail = DynamoDBAuditTrail(dynamodb, table)
    boss = VirtualKey(lookup_id(ADMIN), "admin", hash_key(ADMIN), role="admin")
    await DynamoDBRegistry(dynamodb, table).put_key(boss)
    alive = AdminApp(editor=DynamoDBRegistry(dynamodb, table), trail=trail)
    assert await apply(alive, "old") == 200

    seen: list[tuple[int, Moment, str]] = []
    step, moment = 0, MOMENTS[0]
    while True:
        client = DyingClient(dynamodb, step, moment)
        dying: Any = client
        app = AdminApp(editor=DynamoDBRegistry(dying, table), trail=trail)
        status = await until_death(client, apply(app, "new"))
        await app.close()
        snapshot = await DynamoDBRegistry(dynamodb, table).read()
        word = word_of(snapshot)
        seen.append((step, moment, word))
        done = (await trail.page(AuditFilter(action="config.apply", outcome="done"), None, 1)).events[0]
        assert done.revision == snapshot.revision, "the trail tells of this revision, and of none after it"
        if word == "new":
            assert await apply(alive, "old") == 200
        if status is not None:
            assert status == 200
            break
        step, moment = (step, MOMENTS[1]) if moment == MOMENTS[0] else (step + 1, MOMENTS[0])
    await alive.close()

    words = [word for _, _, word in seen]
    assert step > 5, "there were steps to die at"
    assert words == sorted(words, reverse=True), "once it is the new one, it stays so"
    assert words.index("new") >= len(words) - 4, "and that only at the last calls"


async def test_killed_with_sigkill_it_is_the_old_file_or_the_new_one(
    request: pytest.FixtureRequest, dynamodb: AwsJsonClient
) -> None:
    """The real command's work in a process of its own, killed at moments of chance, and read all the while."""
    local = "dynamodb-local" in request.node.name
    url = engine_url(request, "dynamodb-local" if local else "moto")
    table = await create_registry_table(dynamodb)
    chance = random.Random(4711)  # noqa: S311 - no secret
    words = []
    reads = 0
    for _ in range(KILLS):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.contract.apply_process", url, table, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        until = asyncio.get_running_loop().time() + 0.3 + chance.random()
        while asyncio.get_running_loop().time() < until:
            word_of(await DynamoDBRegistry(dynamodb, table).read())
            reads += 1
        process.send_signal(signal.SIGKILL)
        await process.wait()
        words.append(word_of(await DynamoDBRegistry(dynamodb, table).read()))
    assert set(words) <= {"old", "new"}
    assert reads >= KILLS
