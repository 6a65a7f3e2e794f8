"""The library used as it is not meant to be: other loops, after the end, and arguments that are none."""

import asyncio
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import pytest

from llm_gateway import Gateway
from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InvalidRequest

HELLO = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def make(ledger: MemoryLedger) -> Callable[..., Gateway]:
    def made() -> Gateway:
        return Gateway(ledger=ledger, environ={})

    return made


def only(ledger: MemoryLedger) -> RequestRecord:
    (record,) = ledger.records.values()
    return record


# -- one loop, until the end ------------------------------------------------------------------------------------


async def test_another_loop_is_refused_at_the_call(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    async with make() as gateway:
        for call in (
            lambda: gateway.chat_completion("t", HELLO, model="echo:x"),
            lambda: gateway.chat_completion("t", HELLO, model="echo:x", stream=True),
            lambda: gateway.embeddings("t", "x", model="echo:x"),
            lambda: gateway.moderation("t", "x"),
            gateway.aclose,
        ):
            with pytest.raises(RuntimeError, match=r"llm_gateway\.Gateway belongs to another event loop"):
                await asyncio.to_thread(_run, call)
        assert not ledger.records
        assert (await gateway.chat_completion("t", HELLO, model="echo:x")).content
    assert only(ledger).status == "settled"


def test_two_threads_that_come_at_once_are_one_too_many(make: Callable[..., Gateway]) -> None:
    gateway, both, told = make(), Barrier(2), list[str]()

    async def use() -> None:
        both.wait(5)
        try:
            await gateway.chat_completion("t", HELLO, model="echo:x")
            told.append("answered")
        except RuntimeError as error:
            told.append(str(error))
        both.wait(5)

    threads = [Thread(target=lambda: asyncio.run(use())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(told) == 2
    assert sum("belongs to another event loop" in each for each in told) == 1
    assert "answered" in told


async def test_a_closed_gateway_takes_no_calls(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    async with make() as gateway:
        answer = await gateway.chat_completion("t", HELLO, model="echo:x")
    for stream in (False, True):
        with pytest.raises(RuntimeError, match=r"llm_gateway\.Gateway is closed"):
            await gateway.chat_completion("t", HELLO, model="echo:x", stream=stream)
    with pytest.raises(RuntimeError, match="is closed"):
        await gateway.__aenter__()
    await gateway.aclose()
    assert await gateway.record(answer.request_id) == only(ledger), "what was written can still be read"


def _run(call: Callable[[], Any]) -> None:
    asyncio.run(call())


# -- arguments that are none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "param"),
    [
        ({"Job": "x"}, "tags.Job"),
        ({"": "x"}, "tags."),
        ({"job": ""}, "tags.job"),
        ({"job": "a\nb"}, "tags.job"),
        ({"job": "x" * 257}, "tags.job"),
        ({"job": 5}, "tags.job"),
        ({"job": "\ud800"}, "tags.job"),
        ({7: "x"}, "tags.7"),
        ({f"t{number}": "x" for number in range(17)}, None),
        ([("job", "x")], "tags"),
    ],
)
async def test_tags_follow_the_headers_rule(
    tags: Any, param: str | None, make: Callable[..., Gateway], ledger: MemoryLedger
) -> None:
    async with make() as gateway:
        with pytest.raises(InvalidRequest, match=r"tag") as refused:
            await gateway.chat_completion("t", HELLO, model="echo:x", tags=tags)
    assert refused.value.param == param
    assert not ledger.records


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": float("inf")}, "top_p"),
        ({"logit_bias": {"5": float("-inf")}}, "logit_bias"),
        ({"metadata": {"a": [1, {"b": (2.0, float("nan"))}]}}, "metadata"),
    ],
)
async def test_numbers_that_json_has_not(
    arguments: dict[str, Any], name: str, make: Callable[..., Gateway], ledger: MemoryLedger
) -> None:
    async with make() as gateway:
        with pytest.raises(InvalidRequest, match=f"`{name}` holds") as refused:
            await gateway.chat_completion("t", HELLO, model="echo:x", **arguments)
        with pytest.raises(InvalidRequest, match="`input` holds"):
            await gateway.embeddings("t", [[float("nan")]], model="echo:x")
    assert refused.value.param == name
    assert not ledger.records


async def test_null_is_no_number(make: Callable[..., Gateway]) -> None:
    silent: list[dict[str, Any]] = [*HELLO, {"role": "assistant", "content": None, "tool_calls": []}, *HELLO]
    async with make() as gateway:
        assert (await gateway.chat_completion("t", silent, model="echo:x", temperature=0.0)).content


def test_a_handler_is_a_function(make: Callable[..., Gateway]) -> None:
    with pytest.raises(TypeError, match="a function of one event, not int"):
        make().attach(5)  # type: ignore[arg-type]
