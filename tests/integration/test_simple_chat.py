"""`POST /api/chat` over real HTTP: the one-line API, and what its sessions remember, forget and keep apart."""

import concurrent.futures
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.memory_conversations import MemoryConversations
from llm_gateway.domain.conversation import MOST_BYTES, TurnClaim
from llm_gateway.errors import Unavailable
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import OpenAIUpstream, Reply, chat, error

CONFIG = """
default_model = "fast"
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"
[prices."corp:x"]
input = "1"
output = "2"
[models.fast]
deployments = [{{ provider = "corp", model = "x" }}]
[models.other]
deployments = [{{ provider = "corp", model = "y" }}]
[teams.ads]
[keys.ann]
key = "sk-ann-test-key"
[keys.ben]
key = "sk-ben-test-key"
[keys.limited]
key = "sk-limited-test-key"
models = ["other"]
[keys.rich]
key = "sk-rich-test-key"
budget = {{ usd = "100", period = "day" }}
[keys.poor]
key = "sk-poor-test-key"
budget = {{ usd = "0.000001", period = "day" }}
"""


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        running.script("x", chat("Hello from the provider."))
        yield running


@pytest.fixture
def app(upstream: OpenAIUpstream) -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url)) as running:
        yield running


def say(app: GatewayApp, message: str = "Hi", *, key: str = "ann", header: Any = None, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer sk-{key}-test-key", **(header or {})}
    return httpx.post(f"{app.root}/api/chat", json={"message": message, **more}, headers=headers, timeout=20)


def sent(upstream: OpenAIUpstream) -> list[tuple[str, str]]:
    """What the provider was told last."""
    return [(each["role"], each["content"]) for each in upstream.requests[-1].json["messages"]]


def test_a_message_gets_a_reply(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    answer = say(app, "How are you?")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert set(told) == {"reply", "model", "finish_reason", "usage"}
    assert (told["reply"], told["model"], told["finish_reason"]) == ("Hello from the provider.", "fake-model", "stop")
    assert sent(upstream) == [("user", "How are you?")]
    record = app.record(answer.headers["x-request-id"])
    assert (record.status, record.routed_model, record.requested_model) == ("settled", "x", "fast")
    assert told["usage"]["prompt_tokens"] == record.usage.input_tokens
    assert Decimal(answer.headers["x-gateway-cost-usd"]) == record.cost_usd


def test_a_prompt_and_a_model(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    assert say(app, "Hi", system="Be brief.", model="other").status_code == 200
    assert sent(upstream) == [("system", "Be brief."), ("user", "Hi")]
    assert upstream.requests[-1].json["model"] == "y"


def test_a_session_remembers(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.script("x", chat("one"), chat("two"), chat("three"), chat("four"))
    first = say(app, "1", session_id="s", system="Be brief.")
    assert first.json()["session_id"] == "s"
    assert "warning" not in first.json()
    say(app, "2", session_id="s")
    assert sent(upstream) == [("system", "Be brief."), ("user", "1"), ("assistant", "one"), ("user", "2")]
    say(app, "3", session_id="s", system="Be long.", model="fast")
    assert sent(upstream)[0] == ("system", "Be long.")
    say(app, "4", session_id="s", system="")
    assert sent(upstream)[0] == ("user", "1")
    assert sent(upstream)[-3:] == [("user", "3"), ("assistant", "three"), ("user", "4")]


def test_without_a_session_nothing_is_kept(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    say(app, "1")
    say(app, "2")
    assert sent(upstream) == [("user", "2")]
    assert app.conversations.sessions == {}


def test_another_keys_session_id_finds_nothing(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    say(app, "My secret is 42.", session_id="s", key="ann")
    assert say(app, "What is the secret?", session_id="s", key="ben").status_code == 200
    assert sent(upstream) == [("user", "What is the secret?")]
    say(app, "Again?", session_id="s", key="ann")
    assert sent(upstream)[0] == ("user", "My secret is 42.")


def test_a_turn_that_fails_is_forgotten_and_frees_its_session(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    say(app, "1", session_id="s")
    upstream.script("x", error(400, "No."), chat("fine"))
    refused = say(app, "2", session_id="s")
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "No.")
    assert say(app, "3", session_id="s").status_code == 200
    assert [text for _, text in sent(upstream)] == ["1", "Hello from the provider.", "3"]


@pytest.mark.parametrize(
    ("key", "body", "status", "code"),
    [
        ("nobody", {}, 401, "invalid_api_key"),
        ("nobody", {"message": 5}, 401, "invalid_api_key"),
        ("limited", {}, 403, "model_not_allowed"),
        ("poor", {}, 429, "insufficient_quota"),
        ("ann", {"model": "nope"}, 404, "model_not_found"),
        ("ann", {"temperature": 1}, 400, None),
        ("ann", {"message": "x" * (MOST_BYTES + 1)}, 400, "message_too_long"),
    ],
)
def test_refusals_have_the_envelope_and_leave_the_session_free(
    app: GatewayApp, key: str, body: dict[str, Any], status: int, code: str | None
) -> None:
    for _ in range(2):
        answer = say(app, **{"message": "Hi", "session_id": "s", **body}, key=key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert set(answer.json()) == {"error"}
        assert "x-request-id" in answer.headers
    assert not any(session.running for session in app.conversations.sessions.values())


def test_a_long_message_needs_no_session(app: GatewayApp) -> None:
    assert say(app, "x" * (MOST_BYTES + 1)).status_code == 200


def test_a_reply_too_long_to_be_kept_is_told(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.script("x", chat("x" * MOST_BYTES), chat("short"))
    answer = say(app, "1", session_id="s")
    assert len(answer.json()["reply"]) == MOST_BYTES
    assert "begins anew" in answer.json()["warning"]
    assert "begins anew" in answer.headers["x-gateway-warning"]
    assert "warning" not in say(app, "2", session_id="s").json()
    assert sent(upstream) == [("user", "2")]


def test_an_empty_reply_is_no_turn(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    """Providers refuse a history with an empty message."""
    upstream.script("x", chat(""), chat("fine"))
    answer = say(app, "1", session_id="s").json()
    assert answer["reply"] == ""
    assert "no reply" in answer["warning"]
    assert say(app, "2", session_id="s").status_code == 200
    assert sent(upstream) == [("user", "2")]


def test_of_two_turns_at_once_the_later_is_refused(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.script("x", chat("one"), chat("two"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(
            say, app, "first", session_id="s", model="echo:slow", system=" ".join("word" for _ in range(9))
        )
        deadline = time.monotonic() + 5
        while not any(session.running for session in app.conversations.sessions.values()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        later = say(app, "second", session_id="s")
        assert (later.status_code, later.json()["error"]["code"]) == (409, "session_busy")
        assert later.headers["retry-after"] == "1"
        assert upstream.requests == [], "nothing was paid for"
        assert say(app, "elsewhere", session_id="t").status_code == 200
        assert slow.result().status_code == 200
    assert say(app, "third", session_id="s").status_code == 200
    assert [text for role, text in sent(upstream) if role == "user"] == ["first", "third"]


def test_a_caller_who_leaves_frees_the_session(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{app.root}/api/chat",
            json={"message": "hello", "session_id": "s", "model": "echo:no-answer"},
            headers={"authorization": "Bearer sk-ann-test-key"},
            timeout=0.3,
        )
    deadline = time.monotonic() + 5
    while any(session.running for session in app.conversations.sessions.values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert say(app, "again", session_id="s").status_code == 200
    assert sent(upstream) == [("user", "again")]


def test_a_reply_that_nobody_waited_for_is_not_remembered(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    """With a budget the call runs on, for its cost."""
    held = chat("unread", hold=True)
    upstream.script("x", held, chat("fine"))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{app.root}/api/chat",
            json={"message": "unheard", "session_id": "s"},
            headers={"authorization": "Bearer sk-rich-test-key"},
            timeout=0.5,
        )
    time.sleep(0.2)  # the gateway hears of it
    held.gate.release()
    deadline = time.monotonic() + 5
    while any(session.running for session in app.conversations.sessions.values()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert say(app, "again", session_id="s", key="rich").status_code == 200
    assert sent(upstream) == [("user", "again")]


def test_an_idempotency_key_is_kept_without_a_session_and_refused_with_one(
    app: GatewayApp, upstream: OpenAIUpstream
) -> None:
    header = {"idempotency-key": "one"}
    first, again = (say(app, "Hi", header=header) for _ in range(2))
    assert first.json() == again.json()
    assert again.headers["x-gateway-idempotent-replay"] == "true"
    assert len(upstream.requests) == 1
    refused = say(app, "Hi", session_id="s", header=header)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "session_id")


def test_an_answer_without_a_message_is_a_provider_that_failed(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.script("x", Reply({"id": "1", "object": "chat.completion", "model": "x", "choices": []}))
    answer = say(app, "Hi", session_id="s")
    assert answer.status_code == 502
    assert app.record(answer.headers["x-request-id"]).status == "failed"
    upstream.script("x", chat("fine"))
    assert say(app, "Hi", session_id="s").status_code == 200


class Away(MemoryConversations):
    """A store that fails where it is told to."""

    def __init__(self, *methods: str) -> None:
        super().__init__()
        self.methods = methods

    async def begin(self, claim: TurnClaim) -> bytes | None:
        if "begin" in self.methods:
            raise Unavailable("away")
        return await super().begin(claim)

    async def finish(self, claim: TurnClaim, kept: bytes, until: int) -> bool:
        if "finish" in self.methods:
            raise Unavailable("away")
        return await super().finish(claim, kept, until)


def test_a_store_that_is_away_sends_nothing(upstream: OpenAIUpstream) -> None:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), conversations=Away("begin")) as app:
        answer = say(app, session_id="s")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert upstream.requests == []
        assert say(app).status_code == 200


def test_a_reply_that_cannot_be_kept_is_not_lost(upstream: OpenAIUpstream) -> None:
    store = Away("finish")
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), conversations=store) as app:
        answer = say(app, "1", session_id="s").json()
        assert answer["reply"] == "Hello from the provider."
        assert "could not be kept" in answer["warning"]
        deadline = time.monotonic() + 5
        while any(session.running for session in store.sessions.values()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        store.methods = ()
        assert say(app, "2", session_id="s").status_code == 200
        assert sent(upstream) == [("user", "2")]


def test_tags_and_timeouts_are_those_of_every_call(app: GatewayApp) -> None:
    answer = say(app, header={"x-gateway-tag-feature": "faq"})
    assert app.record(answer.headers["x-request-id"]).tags == {"feature": "faq"}
    late = say(app, model="echo:no-answer", header={"x-gateway-timeout": "0.2"})
    assert late.status_code == 504
