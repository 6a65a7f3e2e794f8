"""Two hundred requests at once over several gateways, while processes are killed, callers leave and the engine hangs."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

from tests.contract.engines import DynamoDBLocal
from tests.fakes.gateway_on_dynamodb import GatewayOnDynamoDB
from tests.prove.scenarios import REQUESTS, Scenario

GATEWAYS = 4
_KILLED = 2
_HANG_S = 2.5
_LEAVING = 0.15
_WITHOUT_MAXIMUM = 0.1
_STREAMED = 0.5
_ARRIVE_WITHIN_S = 4.0
_CLIENT_S = 90.0


@dataclass
class Fleet:
    """The gateways. One that was killed is replaced."""

    store_url: str
    log: Path
    gateways: list[GatewayOnDynamoDB] = field(default_factory=list)

    def start(self) -> None:
        while len(self.gateways) < GATEWAYS:
            self.gateways.append(GatewayOnDynamoDB(self.store_url, log=self.log))
        for gateway in self.gateways:
            _ = gateway.base_url

    def kill_one(self) -> None:
        self.gateways.pop(0).kill()

    def stop(self) -> None:
        for gateway in self.gateways:
            gateway.stop()


async def storm(scenario: Scenario, fleet: Fleet, engine: DynamoDBLocal, randomness: Random) -> Counter[str]:
    """What the callers got: `admitted`, `refused`, `denied` (503), `left`, `cut`; any other status under its number."""
    outcomes: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=_CLIENT_S, limits=limits, trust_env=False) as client:

        async def call(number: int) -> None:
            await asyncio.sleep(randomness.random() * _ARRIVE_WITHIN_S)
            gateway = fleet.gateways[number % len(fleet.gateways)]
            outcomes[await _ask(client, f"{gateway.base_url}/chat/completions", scenario, randomness)] += 1

        async with asyncio.TaskGroup() as tasks:
            for number in range(REQUESTS):
                tasks.create_task(call(number))
            tasks.create_task(_trouble(fleet, engine))
    return outcomes


async def _trouble(fleet: Fleet, engine: DynamoDBLocal) -> None:
    await asyncio.sleep(1.0)
    await asyncio.to_thread(fleet.kill_one)
    await asyncio.sleep(0.5)
    engine.hang()
    try:
        await asyncio.sleep(_HANG_S)
    finally:
        engine.go_on()
    for _ in range(_KILLED - 1):
        await asyncio.sleep(0.7)
        await asyncio.to_thread(fleet.kill_one)


async def _ask(client: httpx.AsyncClient, url: str, scenario: Scenario, randomness: Random) -> str:
    body = {
        "model": "corp:m",
        "messages": [{"role": "user", "content": "word " * randomness.randrange(2, 20)}],
        "stream": randomness.random() < _STREAMED,
    }
    if randomness.random() >= _WITHOUT_MAXIMUM:
        body["max_tokens"] = randomness.randrange(scenario.max_tokens // 2, scenario.max_tokens)
    leaves = randomness.random() < _LEAVING
    headers = {"Authorization": f"Bearer {scenario.token}"}
    try:
        async with client.stream("POST", url, json=body, headers=headers) as answer:
            if answer.status_code == 200 and leaves:
                return "left"  # at the head of the answer: a stream goes on being made
            await answer.aread()
    except httpx.TransportError:
        return "cut"
    return _named(answer)


def _named(answer: httpx.Response) -> str:
    match answer.status_code:
        case 200:
            return "admitted"
        case 429:
            assert answer.json()["error"]["type"] == "insufficient_quota", answer.text
            # For good, or until what others hold is settled.
            assert (answer.headers.get("x-should-retry") == "false") is ("retry-after" not in answer.headers)
            return "refused"
        case 503:
            assert answer.json()["error"]["code"] == "ledger_unavailable", answer.text
            return "denied"
        case other:
            return f"{other}: {answer.text[:200]}"


def ask_at_last(fleet: Fleet, scenario: Scenario) -> str:
    """A request as small as they come, of a budget that has settled."""
    url = f"{fleet.gateways[0].base_url}/chat/completions"
    body = {"model": "corp:m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    headers = {"Authorization": f"Bearer {scenario.token}"}
    return _named(httpx.post(url, json=body, headers=headers, timeout=_CLIENT_S, trust_env=False))
