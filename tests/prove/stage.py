"""What a fault is tried on: an engine that can be paused, a proxy before it, a queue, a provider with a fixed bill."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from tests.contract.engines import DynamoDBLocal
from tests.fakes.dying_stores import Step
from tests.fakes.dynamodb_faults import DynamoDBFaults
from tests.fakes.gateway_on_dynamodb import GatewayOnDynamoDB
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, chat
from tests.prove.provider import INPUT_USD, OUTPUT_USD
from tests.prove.rollup import RetriedRollup

COUNTS: Final = {"prompt_tokens": 5, "completion_tokens": 10, "total_tokens": 15}
BILL: Final = (5 * Decimal(INPUT_USD) + 10 * Decimal(OUTPUT_USD)) / 1_000_000
NOWHERE: Final = "http://127.0.0.1:9/123456789012/away"
_PATIENCE_S: Final = 60.0

_Found = TypeVar("_Found")


@dataclass
class Stage:
    engine: DynamoDBLocal
    faults: DynamoDBFaults
    """Paused; resumed, it throttles every call."""
    provider: OpenAIUpstream
    sqs: Any
    queue_url: str
    rollup: RetriedRollup
    logs: Path
    callers: ThreadPoolExecutor
    sweep_in: Callable[[float], None]
    """Ends what is past its time in so many seconds."""

    @contextmanager
    def gateway(
        self, name: str, *, dies_at: Step | None = None, proxied: bool = False, queue: bool = True
    ) -> Iterator["Caller"]:
        """A gateway, and who calls it with the key of this name. It ends with all that it has begun."""
        with GatewayOnDynamoDB(
            self.faults.url if proxied else self.engine.url,
            log=self.log_of(name),
            queue_url=self.queue_url if queue else NOWHERE,
            dies_at=dies_at,
        ) as gateway:
            yield Caller(gateway, name)

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def held_stream(self) -> ChatStream:
        """What the provider answers to the next request: two events, then the rest when its gate is released."""
        stream = ChatStream(counts=COUNTS, gate_after=2)
        self.provider.queue(stream)
        return stream

    def answers_plainly(self) -> None:
        self.provider.script("m", chat(usage=COUNTS))

    def until_queued(self) -> None:
        """Blocks until a message waits."""
        name = "ApproximateNumberOfMessages"

        def waits() -> bool:
            answer = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=[name])
            return bool(answer["Attributes"][name] != "0")

        _until(waits)

    def until_logged(self, name: str) -> str:
        """The lost settlement that a gateway's log has."""

        def logged() -> str | None:
            for line in self.log_of(name).read_text().splitlines():
                if "ledger_unavailable" in line:
                    return line.partition("settlement=")[2]
            return None

        return _until(logged) or ""

    def drain(self, count: int = 1) -> None:
        """Waits for as many messages, and settles them as the rollup does."""
        found: list[dict[str, Any]] = []

        def received() -> bool:
            answer = self.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=10)
            found.extend(answer.get("Messages", ()))
            return len(found) >= count

        _until(received)
        self.rollup.settle(found)
        for message in found:
            self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])

    def send_what_the_log_has(self, name: str) -> None:
        """What an operator does about `LedgerAlarm`: docs/operations.md."""
        body = json.dumps(json.JSONDecoder().raw_decode(self.until_logged(name))[0])
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)


@dataclass
class Caller:
    gateway: GatewayOnDynamoDB
    name: str

    def ask(self, *, stream: bool = False, leave: Callable[[], None] | None = None) -> str:
        """What the caller saw. One that leaves does so at the first chunk, and then does this."""
        body = {"model": "corp:m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}
        url, headers = f"{self.gateway.base_url}/chat/completions", {"Authorization": f"Bearer sk-fault-{self.name}"}
        begun = ""
        try:
            with httpx.stream(
                "POST", url, json=body | {"stream": stream}, headers=headers, timeout=_PATIENCE_S, trust_env=False
            ) as answer:
                if answer.status_code != httpx.codes.OK:
                    return f"{answer.status_code} {json.loads(answer.read())['error']['code']}"
                begun = "200, then "
                for _ in answer.iter_bytes():
                    if leave is not None:
                        break
        except httpx.TransportError:
            return f"{begun}cut"
        if leave is not None:
            leave()
            return "200, and left"
        return "200"


def _until(found: Callable[[], _Found]) -> _Found:
    """Raises `TimeoutError`."""
    ends = time.monotonic() + _PATIENCE_S
    while not (answer := found()):
        if time.monotonic() > ends:
            raise TimeoutError("what was to come did not")
        time.sleep(0.1)
    return answer
