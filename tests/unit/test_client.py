"""The in-process client: one call over the library's pipeline, from any thread and any event loop."""

import asyncio
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_gateway import (
    ConfigError,
    ConfigLoader,
    GatewayError,
    InterventionContext,
    LLMConfig,
    LLMGatewayClient,
    LLMRequest,
    ProviderFactory,
)
from llm_gateway.errors import InvalidRequest, UpstreamError

HELLO = LLMRequest("Hello there", config=LLMConfig(model_identifier="echo:demo"))
FILE = """
default_model = "fast"

[models.fast]
deployments = [{ provider = "echo", model = "demo" }]

[teams.poor]
budget = { usd = "0.00001", period = "month" }
"""
MakeClient = Callable[..., LLMGatewayClient]


class Listener:
    """A provider that keeps what it was asked, and answers after `pause_s`."""

    name = "listener"

    def __init__(self, answer: Mapping[str, Any] | None = None, pause_s: float = 0.0) -> None:
        self.asked: list[dict[str, Any]] = []
        self.began = threading.Event()
        self.left = threading.Event()
        self._message = {"role": "assistant", "content": "heard", **(answer or {})}
        self._pause_s = pause_s

    async def chat(self, body: dict[str, Any], key: str | None) -> Mapping[str, Any]:
        self.asked.append(body)
        self.began.set()
        try:
            await asyncio.sleep(self._pause_s)
        except asyncio.CancelledError:
            self.left.set()
            raise
        return {"choices": [{"index": 0, "message": self._message, "finish_reason": "stop"}]}


@pytest.fixture
def make() -> Iterator[MakeClient]:
    with ExitStack() as made:

        def client(config: Any = None, *plugins: Any, **options: Any) -> LLMGatewayClient:
            return made.enter_context(LLMGatewayClient(config, ProviderFactory(*plugins, environ={}), **options))

        yield client


def of(model: str, **config: Any) -> LLMRequest:
    return LLMRequest("Hello there", config=LLMConfig(model_identifier=model, **config))


# -- answers ----------------------------------------------------------------------------------------------------


def test_an_answer_with_its_cost(make: MakeClient) -> None:
    response = make().generate_sync(HELLO)
    assert response.generated_content == "echo: Hello there"
    assert response.finish_reason == "stop"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (2, 3)
    assert response.cost_usd == Decimal("0.000008")
    assert (response.provider, response.model, response.answered_model) == ("echo", "demo", "demo")
    assert response.error_details is None
    assert response.request_id is not None
    assert response.request_id.startswith("req_")


def test_a_file_names_the_models(make: MakeClient, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE, encoding="utf-8")
    for config in (ConfigLoader(path).load(), path, str(path)):
        response = make(config).generate_sync(LLMRequest("Hello there"))
        assert (response.provider, response.model) == ("echo", "demo")


def test_a_file_at_fault_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text("default_modle = 1", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"gateway\.toml: default_modle"):
        ConfigLoader(path).load()
    with pytest.raises(ConfigError, match="cannot be read"):
        ConfigLoader(tmp_path / "none.toml").load()
    with pytest.raises(ConfigError):
        LLMGatewayClient(path)


def test_what_is_sent(make: MakeClient) -> None:
    listener = Listener()
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    config = LLMConfig(
        model_identifier="listener:deep",
        temperature=0.0,
        max_tokens=5,
        stop_sequences=["END"],
        system_prompt="Be brief.",
        parameters={"seed": 7},
    )
    history = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    context = InterventionContext(user_id="ann", conversation_history=history)
    make(None, listener).generate_sync(LLMRequest([{"type": "text", "text": "3"}], config, context, [tool]))
    (asked,) = listener.asked
    assert asked == {
        "model": "deep",
        "messages": [
            {"role": "system", "content": "Be brief."},
            *history,
            {"role": "user", "content": [{"type": "text", "text": "3"}]},
        ],
        "temperature": 0.0,
        "max_tokens": 5,
        "stop": ["END"],
        "seed": 7,
        "user": "ann",
        "tools": [tool],
    }


def test_the_final_context_goes_on(make: MakeClient) -> None:
    listener = Listener({"reasoning_content": "hm", "signature": "kept"})
    client = make(None, listener)
    config = LLMConfig(model_identifier="listener:x", system_prompt="Be brief.")
    first = client.generate_sync(LLMRequest("one", config, InterventionContext(session_id="s-1")))
    client.generate_sync(LLMRequest("two", config, first.final_context))
    said = [(message["role"], message["content"]) for message in listener.asked[1]["messages"]]
    assert said == [("system", "Be brief."), ("user", "one"), ("assistant", "heard"), ("user", "two")]
    assert listener.asked[1]["messages"][2]["signature"] == "kept", "a provider's own words go back as they came"
    assert first.final_context.session_id == "s-1"


def test_a_tools_result_needs_no_prompt(make: MakeClient) -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    listener = Listener({"content": None, "tool_calls": calls})
    client, config = make(None, listener), LLMConfig(model_identifier="listener:x")
    first = client.generate_sync(LLMRequest("look", config))
    assert first.generated_content is None
    assert [(call.id, call.name, call.arguments) for call in first.tool_calls] == [("c1", "look", "{}")]
    told = first.final_context.after([{"role": "tool", "tool_call_id": "c1", "content": "seen"}])
    client.generate_sync(LLMRequest(None, config, told))
    assert [message["role"] for message in listener.asked[1]["messages"]] == ["user", "assistant", "tool"]


def test_whose_call_it_was_is_in_the_ledger(make: MakeClient) -> None:
    client = make(team_id="search")
    context = InterventionContext(session_id="s-1", user_id="ann", tags={"job": "nightly"})
    ours = client.generate_sync(LLMRequest("Hello", HELLO.config, context))
    theirs = client.generate_sync(LLMRequest("Hello", HELLO.config, InterventionContext(team_id="ads")))
    for response, team, user, tags in (
        (ours, "search", "ann", {"job": "nightly", "session_id": "s-1"}),
        (theirs, "ads", None, {}),
    ):
        record = asyncio.run(client._gateway.record(response.request_id or ""))
        assert record is not None
        assert (record.team, record.user, record.tags, record.status) == (team, user, tags, "settled")


# -- errors -----------------------------------------------------------------------------------------------------


def test_an_error_is_raised_or_told(make: MakeClient) -> None:
    client = make()
    with pytest.raises(UpstreamError) as raised:
        client.generate_sync(of("echo:error-429"))
    response = client.generate_sync(of("echo:error-429"), raise_errors=False)
    told = response.error_details
    assert told is not None
    assert (told.code, told.type, told.message, told.http_status) == (
        raised.value.error_code,
        "rate_limit_error",
        raised.value.message,
        429,
    )
    assert (told.retryable, told.retry_after_seconds) == (True, 1.0)
    assert (response.generated_content, response.finish_reason, response.raw) == (None, None, None)
    assert response.final_context == HELLO.initial_context, "a turn without an answer is none"
    assert response.request_id != raised.value.headers["x-request-id"]
    assert (response.provider, response.model, response.cost_usd) == ("echo", "error-429", Decimal(0))


def test_the_client_may_say_it_for_all_calls(make: MakeClient) -> None:
    client = make(raise_errors=False)
    assert client.generate_sync(of("echo:error-400")).error_details is not None
    with pytest.raises(GatewayError):
        client.generate_sync(of("echo:error-400"), raise_errors=True)


@pytest.mark.parametrize(
    ("request_", "status", "param", "retryable"),
    [
        (LLMRequest("Hello"), 400, "model", False),
        (of("openai:gpt-4.1-mini"), 401, "credentials", False),
        (of("echo:error-503"), 503, None, True),
        (of("echo:demo", timeout_seconds=0), 400, "timeout_s", False),
        (of("echo:demo", temperature=float("nan")), 400, "temperature", False),
        (of("echo:demo", parameters={"messages": []}), 400, "messages", False),
        (of("echo:demo", max_tokens=3, parameters={"max_tokens": 5}), 400, "max_tokens", False),
        (LLMRequest("x", HELLO.config, InterventionContext(session_id="a\nb")), 400, "tags.session_id", False),
    ],
)
def test_every_error_is_data_where_asked(
    request_: LLMRequest, status: int, param: str | None, retryable: bool, make: MakeClient
) -> None:
    response = make().generate_sync(request_, raise_errors=False)
    told = response.error_details
    assert told is not None
    assert (told.http_status, told.param, told.retryable) == (status, param, retryable)
    assert told.message


def test_a_late_answer_is_an_error_that_is_paid(make: MakeClient) -> None:
    began = time.monotonic()
    response = make().generate_sync(of("echo:stall", timeout_seconds=0.3), raise_errors=False)
    assert time.monotonic() - began < 5
    assert response.error_details is not None
    assert response.error_details.http_status == 504
    assert response.usage.input_tokens > 0
    assert response.cost_usd is not None
    assert response.cost_usd > 0
    assert response.request_id is not None


def test_a_budget_holds(make: MakeClient, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE, encoding="utf-8")
    client = make(path, raise_errors=False)
    poor = InterventionContext(team_id="poor")
    response = client.generate_sync(LLMRequest("Hello", LLMConfig(max_tokens=1000), poor))
    assert response.error_details is not None
    assert (response.error_details.code, response.error_details.retryable) == ("insufficient_quota", False)
    assert client.generate_sync(LLMRequest("Hello")).error_details is None


def test_what_is_no_request_is_a_type_error(make: MakeClient) -> None:
    with pytest.raises(TypeError, match="an LLMRequest, not str"):
        make(raise_errors=False).generate_sync("Hello")  # type: ignore[arg-type]


# -- threads and loops ------------------------------------------------------------------------------------------


def test_one_client_serves_many_loops_and_threads(make: MakeClient) -> None:
    client = make()
    for _ in range(2):
        assert asyncio.run(client.generate(HELLO)).generated_content == "echo: Hello there"
    answers: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.generate_sync(HELLO).generated_content)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == ["echo: Hello there"] * 8


async def test_many_at_once_in_one_loop(make: MakeClient) -> None:
    listener = Listener(pause_s=0.2)
    client = make(None, listener)
    began = time.monotonic()
    await asyncio.gather(*(client.generate(of("listener:x")) for _ in range(20)))
    assert time.monotonic() - began < 2, "they run beside one another"
    assert len(listener.asked) == 20


async def test_being_cancelled_ends_the_call(make: MakeClient) -> None:
    listener = Listener(pause_s=60)
    client = make(None, listener)
    call = asyncio.ensure_future(client.generate(of("listener:x")))
    assert await asyncio.to_thread(listener.began.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(listener.left.wait, 10)


def test_ctrl_c_ends_the_call(make: MakeClient) -> None:
    listener = Listener(pause_s=60)
    client = make(None, listener)

    def press() -> None:
        assert listener.began.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    presses = threading.Thread(target=press)
    presses.start()
    with pytest.raises(KeyboardInterrupt):
        client.generate_sync(of("listener:x"))
    presses.join(10)
    assert listener.left.wait(10)
    assert client.generate_sync(HELLO).generated_content == "echo: Hello there"


def test_after_a_fork_it_is_refused_instead_of_hanging(bare_environ: dict[str, str]) -> None:
    script = (
        "import os\n"
        "from llm_gateway import *\n"
        "client, hello = LLMGatewayClient(None), LLMRequest('Hi', LLMConfig(model_identifier='echo:x'))\n"
        "client.generate_sync(hello)\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        client.generate_sync(hello)\n"
        "    except RuntimeError as error:\n"
        "        print(error, flush=True)\n"
        "    client.close()\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, env=bare_environ, capture_output=True, text=True, timeout=60)
    assert "in another process, before a fork" in done.stdout


def test_the_end_waits_for_calls_that_run() -> None:
    listener = Listener(pause_s=0.3)
    answers: list[Any] = []
    with LLMGatewayClient(None, ProviderFactory(listener, environ={})) as client:
        thread = threading.Thread(target=lambda: answers.append(client.generate_sync(of("listener:x"))))
        thread.start()
        assert listener.began.wait(10)
    thread.join(10)
    assert [answer.generated_content for answer in answers] == ["heard"]


async def test_after_its_end_it_takes_no_calls() -> None:
    async with LLMGatewayClient(None, ProviderFactory(environ={})) as client:
        await client.generate(HELLO)
    with pytest.raises(RuntimeError, match="client is closed"):
        await client.generate(HELLO)
    with pytest.raises(RuntimeError, match="client is closed"):
        client.generate_sync(HELLO, raise_errors=False)
    await client.aclose()
    client.close()


def test_one_that_was_never_used_starts_nothing() -> None:
    before = set(threading.enumerate())
    LLMGatewayClient(None, ProviderFactory(environ={})).close()
    assert set(threading.enumerate()) <= before


def test_waiting_in_its_own_thread_is_refused_instead_of_hanging(make: MakeClient) -> None:
    class Asker:
        name = "asker"
        client: LLMGatewayClient

        async def chat(self, body: dict[str, Any], key: str | None) -> Mapping[str, Any]:
            if body["model"] == "awaits":
                inner = await self.client.generate(HELLO)
                message = {"role": "assistant", "content": inner.generated_content}
                return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            with pytest.raises(RuntimeError, match="own thread"):
                self.client.generate_sync(HELLO)
            raise InvalidRequest("refused, as it should be")

    asker = Asker()
    asker.client = make(None, asker)
    with pytest.raises(InvalidRequest, match="as it should be"):
        asker.client.generate_sync(of("asker:waits"))
    assert asker.client.generate_sync(of("asker:awaits")).generated_content == "echo: Hello there"


def test_one_that_is_forgotten_ends_its_thread() -> None:
    client = LLMGatewayClient(None, ProviderFactory(environ={}))
    client.generate_sync(HELLO)
    thread = client._portal._thread
    assert thread is not None
    del client
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_a_process_that_forgets_it_ends_cleanly(bare_environ: dict[str, str]) -> None:
    script = (
        "from llm_gateway import *\n"
        "client = LLMGatewayClient(provider_factory=ProviderFactory())\n"
        "print(client.generate_sync(LLMRequest('Hi', LLMConfig(model_identifier='echo:x'))).generated_content)"
    )
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", script]
    done = subprocess.run(command, check=False, env=bare_environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "echo: Hi\n", "")


def test_a_plugin_that_is_none_is_told_at_the_factory() -> None:
    with pytest.raises(TypeError, match="not the class"):
        ProviderFactory(Listener)  # type: ignore[arg-type]
    factory = ProviderFactory(Listener(), Listener(), environ={})
    with pytest.raises(ValueError, match="already"):
        LLMGatewayClient(None, factory)
