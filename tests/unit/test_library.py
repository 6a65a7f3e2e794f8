"""The gateway as a library, on `echo` and on providers of the test's own: nothing leaves the process."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import llm_gateway
from llm_gateway import ChatStream, CredentialsMissing, Gateway, GatewayError
from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InvalidRequest, ModelNotFound, UpstreamCut, UpstreamRejected, UpstreamUnreachable
from tests.fakes.virtual_time import in_virtual_time

HELLO = [{"role": "user", "content": "Hello there"}]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def make(ledger: MemoryLedger) -> Callable[..., Gateway]:
    def made(config: Any = None, **options: Any) -> Gateway:
        return Gateway(config, **{"ledger": ledger, "environ": {}, **options})

    return made


def only(ledger: MemoryLedger) -> RequestRecord:
    (record,) = ledger.records.values()
    return record


async def test_an_answer_is_typed_and_recorded(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    async with make() as gateway:
        answer = await gateway.chat_completion(
            "search", HELLO, provider="echo", model="demo", user="u1", temperature=None, tags={"job": "nightly"}
        )
        assert await gateway.record(answer.request_id) == only(ledger)
    assert answer.content == "echo: Hello there"
    assert (answer.provider, answer.model, answer.answered_model) == ("echo", "demo", "demo")
    assert answer.finish_reason == "stop"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 3)
    assert answer.cost_usd == Decimal("0.000008")
    assert answer.raw["object"] == "chat.completion"
    assert "x_gateway" not in answer.raw
    record = only(ledger)
    assert (record.status, record.team, record.user, record.tags) == ("settled", "search", "u1", {"job": "nightly"})
    assert record.cost_usd == answer.cost_usd
    assert record.request_id == answer.request_id


async def test_tool_calls(make: Callable[..., Gateway]) -> None:
    async with make() as gateway:
        whole = await gateway.chat_completion("t", HELLO, model="echo:x", tools=[TOOL], tool_choice="required")
        stream = await gateway.chat_completion(
            "t", HELLO, model="echo:x", tools=[TOOL], tool_choice="required", stream=True
        )
        deltas = [delta async for chunk in stream for delta in chunk.tool_calls]
    (call,) = whole.tool_calls
    assert (whole.content, call.name, call.arguments, call.type) == (None, "look_up", "{}", "function")
    assert [delta.name for delta in deltas if delta.name] == ["look_up"]
    assert "".join(delta.arguments for delta in deltas) == "{}"
    assert stream.finish_reason == "tool_calls"


async def test_a_stream_is_settled_once_at_its_end(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    async with make() as gateway, await gateway.chat_completion("t", HELLO, model="echo:x", stream=True) as stream:
        assert isinstance(stream, ChatStream)
        assert only(ledger).status == "open"
        assert stream.cost_usd is None
        chunks = [chunk async for chunk in stream]
        assert only(ledger).status == "settled"
    assert "".join(chunk.content or "" for chunk in chunks) == "echo: Hello there"
    assert all(chunk.raw["choices"] for chunk in chunks), "nobody asked for the usage chunk"
    assert stream.usage.input_tokens == 2
    assert await gateway.record(stream.request_id) == only(ledger)
    assert only(ledger).cost_usd == Decimal("0.000008")
    assert only(ledger).error_code is None
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def _closed(stream: ChatStream) -> None:
    await stream.aclose()
    await stream.aclose()


async def _left(stream: ChatStream) -> None:
    async with stream:
        pass


async def _forgotten(_: ChatStream) -> None:
    """The gateway's own end sees to it."""


@pytest.mark.parametrize("leave", [_closed, _left, _forgotten])
@pytest.mark.parametrize("read", [0, 1])
@in_virtual_time
async def test_a_stream_that_is_left_is_settled_as_such(
    leave: Any, read: int, make: Callable[..., Gateway], ledger: MemoryLedger
) -> None:
    async with make() as gateway:
        stream = await gateway.chat_completion("t", HELLO, model="echo:slow", stream=True)
        for _ in range(read):
            await anext(stream)
        await leave(stream)
    record = only(ledger)
    assert (record.status, record.error_code) == ("settled", "client_disconnected")
    assert record.usage.estimated


@in_virtual_time
async def test_a_stream_that_is_dropped_is_settled_soon(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    async with make() as gateway:
        stream = await gateway.chat_completion("t", HELLO, model="echo:slow", stream=True)
        await anext(stream)
        del stream
        gc.collect()
        async with asyncio.timeout(5):
            while only(ledger).status == "open":  # noqa: ASYNC110 - the ledger has no event to wait for
                await asyncio.sleep(0.001)
    assert only(ledger).error_code == "client_disconnected"


@in_virtual_time
async def test_a_cancelled_call_is_settled_before_it_ends(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    async with make() as gateway:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await gateway.chat_completion("t", HELLO, model="echo:no-answer")
        assert only(ledger).status == "settled"
        assert only(ledger).error_code == "client_disconnected"


async def test_a_stream_that_breaks_off_raises_where_the_next_chunk_would_be(
    make: Callable[..., Gateway], ledger: MemoryLedger
) -> None:
    async with make() as gateway:
        stream = await gateway.chat_completion("t", HELLO, model="echo:cut", stream=True)
        assert (await anext(stream)).raw["choices"]
        with pytest.raises(UpstreamCut):
            _ = [chunk async for chunk in stream]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert (only(ledger).status, only(ledger).error_code) == ("failed", "upstream_cut")


@in_virtual_time
async def test_a_failure_is_the_providers_own(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    async with make() as gateway:
        with pytest.raises(UpstreamUnreachable):
            await gateway.chat_completion("t", HELLO, model="echo:unreachable", stream=True)
        with pytest.raises(GatewayError) as limited:
            await gateway.chat_completion("t", HELLO, model="echo:error-429")
    assert (limited.value.http_status, limited.value.retry_after) == (429, 1)
    assert {record.status for record in ledger.records.values()} == {"failed"}


async def test_embeddings(make: Callable[..., Gateway]) -> None:
    async with make() as gateway:
        plain = await gateway.embeddings("t", ["one", "two"], model="echo:x")
        packed = await gateway.embeddings("t", ["one", "two"], model="echo:x", encoding_format="base64")
    assert len(plain.vectors) == 2
    assert list(packed.vectors[0]) == pytest.approx(list(plain.vectors[0]), abs=1e-6)
    assert plain.cost_usd == Decimal("0.000002")


async def test_a_file_configures_aliases_and_prices(make: Callable[..., Gateway], tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        'default_model = "fast"\n[models.fast]\ndeployments = [{ provider = "echo", model = "small" }]\n'
        '[prices."echo:small"]\ninput = "10"\noutput = "0"\n'
    )
    async with make(file) as gateway:
        answer = await gateway.chat_completion("t", HELLO)
    assert (answer.model, answer.cost_usd) == ("small", Decimal("0.00002"))


async def test_a_fallback_serves_where_the_models_own_provider_has_no_key(
    make: Callable[..., Gateway], tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        '[models.fast]\ndeployments = [{ provider = "openai", model = "gpt-4.1" }]\nfallbacks = ["echo:small"]\n'
    )
    async with make(file) as gateway:
        answer = await gateway.chat_completion("t", HELLO, model="fast")
    assert (answer.model, answer.provider) == ("small", "echo")


# -- what is missing ---------------------------------------------------------------------------------------------


async def test_missing_credentials_are_named(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    async with make(stack="gw") as gateway:
        for arguments in ({"provider": "azure-openai", "config": {"base_url": "https://x.example"}}, {}):
            with pytest.raises(CredentialsMissing) as missing:
                await gateway.chat_completion("search", HELLO, model="gpt-4.1", **arguments)  # type: ignore[call-overload]
            text = str(missing.value)
            name, variable = ("azure_openai", "AZURE_OPENAI_API_KEY") if arguments else ("openai", "OPENAI_API_KEY")
            assert f"Provider `{name}` has no credentials" in text
            assert 'credentials={"api_key": …}' in text
            assert f"`gw/team/search/{name}`" in text
            assert f"`gw/provider/{name}`" in text
            assert variable in text
    assert not ledger.records


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"provider": "openai", "credentials": {"api_key": " "}}, "`api_key`"),
        ({"provider": "google-vertex", "config": {"base_url": "https://x.example"}}, "service_account"),
        ({"provider": "bedrock"}, "AWS_ACCESS_KEY_ID"),
        ({"provider": "bedrock", "credentials": {"aws_access_key_id": "AK"}}, "aws_secret_access_key"),
    ],
)
async def test_every_kind_of_credential_is_named(
    arguments: dict[str, Any], words: str, make: Callable[..., Gateway]
) -> None:
    async with make() as gateway:
        with pytest.raises(CredentialsMissing, match=words):
            await gateway.chat_completion("t", HELLO, model="m", **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"provider": "opnai", "model": "m"}, 'did you mean "openai"'),
        ({"provider": "echo"}, "needs a `model`"),
        ({"provider": "azure_openai", "model": "m"}, "AZURE_OPENAI_ENDPOINT"),
        ({"model": "m", "credentials": {"api_key": "k"}}, "name it"),
        ({"model": "m", "config": {"base_url": "https://x"}}, "name it"),
        ({"provider": "openai", "model": "m", "config": {"bas_url": "x"}}, 'did you mean "base_url"'),
        ({"provider": "openai", "model": "m", "config": {"base_url": "ftp://x"}}, "must begin with https"),
        ({"provider": "openai", "model": "m", "credentials": {"key": "x"}}, "api_key"),
        ({"provider": "echo", "model": "m", "config": {"timeouts": {"total_s": -1}}}, "positive"),
        ({"provider": "echo", "model": "m", "metadata": {"x": object()}}, "JSON"),
        ({}, "model"),
    ],
)
async def test_arguments_that_make_no_sense_are_refused(
    arguments: dict[str, Any], words: str, make: Callable[..., Gateway], ledger: MemoryLedger
) -> None:
    async with make() as gateway:
        with pytest.raises(InvalidRequest, match=words):
            await gateway.chat_completion("t", HELLO, **arguments)
        with pytest.raises(InvalidRequest, match="team_id"):
            await gateway.chat_completion("", HELLO, model="echo:x")
    assert not ledger.records


async def test_timeouts_of_one_call(make: Callable[..., Gateway]) -> None:
    async with make() as gateway:
        with pytest.raises(GatewayError) as late:
            await gateway.chat_completion(
                "t", HELLO, provider="echo", model="no-answer", config={"timeouts": {"first_token_s": 0.05}}
            )
    assert late.value.http_status == 504


def test_the_face_has_what_it_lists() -> None:
    assert all(getattr(llm_gateway, name) for name in llm_gateway.__all__)
    with pytest.raises(AttributeError, match="no attribute 'gateway_of_nothing'"):
        _ = llm_gateway.gateway_of_nothing


# -- providers of one's own --------------------------------------------------------------------------------------


class Oracle:
    name = "oracle"
    needs_key = True

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], str | None]] = []
        self.closed = False

    def chat(self, body: dict[str, Any], key: str | None) -> Any:
        self.asked.append((body, key))
        return self._chunks() if body.get("stream") else self._whole(body)

    async def _whole(self, body: dict[str, Any]) -> Mapping[str, Any]:
        if body["model"] == "refuses":
            raise UpstreamRejected("Not that.", code="not_that", status=422)
        if body["model"] == "breaks":
            raise KeyError("secret detail")
        if body["model"] == "babbles":
            return "42"  # type: ignore[return-value] # a plugin that does not keep its word
        message = {"role": "assistant", "content": "42"}
        usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
        return {
            "model": "deep-1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }

    async def _chunks(self) -> AsyncIterator[Mapping[str, Any]]:
        try:
            for word in ("4", "2"):
                yield {"model": "deep-1", "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
            yield {"model": "deep-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            yield {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}}
        finally:
            self.closed = True


async def test_a_plugin_is_a_provider_like_any_other(make: Callable[..., Gateway], ledger: MemoryLedger) -> None:
    oracle = Oracle()
    async with make(secrets={"provider/oracle": "sk-oracle"}) as gateway:
        gateway.register_provider(oracle)
        whole = await gateway.chat_completion("t", HELLO, provider="oracle", model="deep")
        stream = await gateway.chat_completion("t", HELLO, model="oracle:deep", stream=True)
        text = "".join([chunk.content or "" async for chunk in stream])
    assert (whole.content, whole.answered_model, whole.provider) == ("42", "deep-1", "oracle")
    assert text == "42"
    assert whole.usage == stream.usage
    assert whole.usage.input_tokens == 7
    assert whole.cost_usd is None, "unpriced is not free"
    body, key = oracle.asked[0]
    assert (body["model"], key) == ("deep", "sk-oracle")
    assert "stream_options" not in oracle.asked[1][0]
    assert {record.status for record in ledger.records.values()} == {"settled"}


async def test_a_plugin_that_is_left_is_closed(make: Callable[..., Gateway]) -> None:
    oracle = Oracle()
    async with make() as gateway:
        gateway.register_provider(oracle)
        stream = await gateway.chat_completion(
            "t", HELLO, provider="oracle", model="deep", credentials={"api_key": "sk-mine"}, stream=True
        )
        await stream.aclose()
    assert oracle.asked[0][1] == "sk-mine"
    assert oracle.closed


@pytest.mark.parametrize(("model", "status", "code"), [("refuses", 422, "not_that"), ("breaks", 502, "upstream_error")])
@in_virtual_time
async def test_a_plugins_errors(
    model: str, status: int, code: str, make: Callable[..., Gateway], ledger: MemoryLedger
) -> None:
    async with make(secrets={"provider/oracle": "k"}) as gateway:
        gateway.register_provider(Oracle())
        with pytest.raises(GatewayError) as failed:
            await gateway.chat_completion("t", HELLO, provider="oracle", model=model)
        with pytest.raises(GatewayError, match="mapping was due"):
            await gateway.chat_completion("t", HELLO, provider="oracle", model="babbles")
        with pytest.raises(InvalidRequest, match="chat completions only"):
            await gateway.embeddings("t", "x", provider="oracle", model="m")
    assert (failed.value.http_status, failed.value.error_code) == (status, code)
    assert "secret detail" not in str(failed.value)
    assert {record.status for record in ledger.records.values()} == {"failed"}


@pytest.mark.parametrize("name", ["openai", "azure-openai", "Or acle", "", "1st"])
def test_a_plugin_needs_a_name_of_its_own(name: str, make: Callable[..., Gateway]) -> None:
    oracle = Oracle()
    oracle.name = name
    with pytest.raises(ValueError, match="name"):
        make().register_provider(oracle)


class Nameless:
    async def chat(self, body: dict[str, Any], key: str | None) -> Mapping[str, Any]:
        raise NotImplementedError


class Mute:
    name = "mute"


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (Oracle, r"register_provider\(Oracle\(\)\), not the class"),
        (Nameless(), "needs a `name`, a string; Nameless has none"),
        (Mute(), r"needs a method `chat\(body, key\)`; Mute has none"),
        (None, "needs a `name`"),
    ],
)
def test_what_is_no_plugin_is_told_so(plugin: Any, words: str, make: Callable[..., Gateway]) -> None:
    with pytest.raises(TypeError, match=words):
        make().register_provider(plugin)


async def test_a_second_plugin_of_a_name_is_refused(make: Callable[..., Gateway]) -> None:
    first, second = Oracle(), Oracle()
    second.name = "or-acle"
    first.name = "or_acle"
    first.needs_key = second.needs_key = False
    async with make() as gateway:
        gateway.register_provider(first)
        with pytest.raises(ValueError, match="'or_acle' of this process already"):
            gateway.register_provider(second)
        assert (await gateway.chat_completion("t", HELLO, provider="or-acle", model="deep")).content == "42"
    assert (len(first.asked), len(second.asked)) == (1, 0)


async def test_a_plugin_has_no_address(make: Callable[..., Gateway]) -> None:
    oracle = Oracle()
    oracle.needs_key = False
    async with make() as gateway:
        gateway.register_provider(oracle)
        for config in ({"base_url": "https://x.example/v1"}, {"headers": {"a": "b"}, "region": "eu"}):
            with pytest.raises(InvalidRequest, match="is code of this process") as refused:
                await gateway.chat_completion("t", HELLO, provider="oracle", model="deep", config=config)
            assert refused.value.param == "config"
        timed = {"timeouts": {"total_s": 5.0}}
        answer = await gateway.chat_completion("t", HELLO, provider="oracle", model="deep", config=timed)
    assert answer.content == "42"


async def test_one_gateways_plugins_are_not_anothers(make: Callable[..., Gateway]) -> None:
    async with make() as one, make(environ={"LLM_PROVIDER": "echo"}) as other:
        one.register_provider(Oracle())
        with pytest.raises(InvalidRequest, match="is no provider"):
            await other.chat_completion("t", HELLO, provider="oracle", model="m")
        with pytest.raises(ModelNotFound):
            await other.chat_completion("t", HELLO, model="echo:")
