"""Specifies which models go on with another's answer, and the request that asks them to."""

import json
from typing import Any

import pytest

from llm_gateway.dialects.continuation import Prefill, continued_request, prefill_style
from llm_gateway.dialects.dialect import Said
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request

PLAIN = Prefill("plain")
SAID = Said("One, two,\n", plain=True, opening={})
OPUS_4_5, OPUS_4_6 = "claude-opus-4-5-20251101", "claude-opus-4-6"


def request(messages: list[Any] | None = None, **members: Any) -> ModelRequest:
    messages = [{"role": "user", "content": "Count."}] if messages is None else messages
    return read_chat_request(json.dumps({"model": "m", "messages": messages, **members}).encode())


def of(name: str, base_url: str = "https://h.example", **quirks: Any) -> Provider:
    return Provider(name, "openai_chat", base_url, quirks=Quirks(**quirks))


@pytest.mark.parametrize(
    ("provider", "model", "style"),
    [
        ("anthropic", OPUS_4_5, "plain"),
        ("anthropic", "claude-3-7-sonnet-latest", "plain"),
        ("anthropic", "claude-sonnet-4-0", "plain"),
        ("anthropic", OPUS_4_6, None),
        ("anthropic", "claude-opus-5-5", None),
        ("anthropic", "claude-of-tomorrow-9", None),
        ("anthropic_vertex", "claude-opus-4-5@20251101", "plain"),
        ("anthropic_bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "plain"),
        ("bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "plain"),
        ("bedrock", "us.anthropic.claude-opus-4-6-v1", None),
        ("bedrock", "amazon.nova-lite-v1:0", "plain"),
        ("bedrock", "amazon.nova-2-lite-v1:0", None),
        ("openrouter", "anthropic/claude-sonnet-4.5", "plain"),
        ("openrouter", "anthropic/claude-sonnet-4.6", None),
        ("openrouter", "anthropic/claude-opus-4", "plain"),
        ("openrouter", "anthropic/claude-opus-4.7", None),
        ("openrouter", "openai/gpt-5", None),
        ("mistral", "mistral-large-latest", "prefix"),
        ("groq", "llama-3.3-70b-versatile", "plain"),
        ("groq", "openai/gpt-oss-120b", None),
        ("vllm", "meta-llama/Llama-3.1-8B-Instruct", "continue_final_message"),
        ("vllm", "Qwen/Qwen3-8B", None),
        ("ollama", "llama3.2", "plain"),
        ("ollama", "deepseek-r1:8b", None),
        ("mistral", "magistral-medium-latest", None),
        ("deepseek", "deepseek-chat", None),
        ("openai", "gpt-5", None),
        ("gemini", "gemini-2.5-pro", None),
        ("corp", "claude-opus-4-5", None),
    ],
)
def test_who_takes_a_prefill_is_a_fact_of_provider_and_model(provider: str, model: str, style: str | None) -> None:
    found = prefill_style(of(provider), model)
    assert (found and found.style) == style


def test_deepseek_takes_one_at_its_beta_alone() -> None:
    assert prefill_style(of("deepseek", "https://api.deepseek.com/v1"), "deepseek-chat") is None
    beta = prefill_style(of("deepseek", "https://api.deepseek.com/beta"), "deepseek-chat")
    assert beta is not None
    assert beta.style == "prefix"
    assert not beta.echoes


def test_mistral_repeats_it() -> None:
    found = prefill_style(of("mistral"), "mistral-small-latest")
    assert found is not None
    assert found.echoes


@pytest.mark.parametrize("style", ["plain", "prefix", "continue_final_message"])
def test_an_operators_word_stands_before_the_table(style: Any) -> None:
    assert prefill_style(of("corp", prefill=style), "whatever") == Prefill(style)
    assert prefill_style(of("mistral", prefill=style), "mistral-large-latest") == Prefill(style)


def test_the_text_goes_up_last_without_the_white_space_at_its_end() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x","n":12345678901234567890}],"seed":1.50}'
    found = continued_request(read_chat_request(body), SAID, PLAIN, 3)
    assert found is not None
    assert found.body == (
        b'{"model":"m","messages":[{"role":"user","content":"x","n":12345678901234567890},'
        b'{"role":"assistant","content":"One, two,"}],"seed":1.50}'
    )
    assert found.fields == json.loads(found.body) | {"messages": found.fields["messages"]}
    assert found.fields["messages"][-1] == {"role": "assistant", "content": "One, two,"}


def test_the_other_styles() -> None:
    prefixed = continued_request(request(), SAID, Prefill("prefix"), 3)
    open_ended = continued_request(request(add_generation_prompt=True), SAID, Prefill("continue_final_message"), 3)
    assert prefixed is not None
    assert open_ended is not None
    for found in (prefixed, open_ended):
        assert json.loads(found.body) == found.fields
    assert prefixed.fields["messages"][-1] == {"role": "assistant", "content": "One, two,", "prefix": True}
    assert open_ended.fields["messages"][-1] == {"role": "assistant", "content": "One, two,"}
    assert open_ended.fields["add_generation_prompt"] is False
    assert open_ended.fields["continue_final_message"] is True


@pytest.mark.parametrize(("limit", "left"), [(100, 97), (4, 1), (3, 1), (1, 1)])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_what_was_written_comes_off_the_limit(name: str, limit: int, left: int) -> None:
    found = continued_request(request(None, **{name: limit}), SAID, PLAIN, 3)
    assert found is not None
    assert json.loads(found.body)[name] == found.fields[name] == left


def test_a_null_limit_stays_none() -> None:
    found = continued_request(request(max_tokens=None), SAID, PLAIN, 3)
    assert found is not None
    assert json.loads(found.body)["max_tokens"] is None


@pytest.mark.parametrize("style", [None, PLAIN])
@pytest.mark.parametrize("content", ["", " \n"])
def test_where_nothing_was_said_it_is_the_request_as_it_was(style: Prefill | None, content: str) -> None:
    given = request(max_tokens=5, response_format={"type": "json_object"})
    assert continued_request(given, Said(content, plain=True, opening={}), style, 3) is given


def test_a_beginning_of_the_callers_own_stays_in_front() -> None:
    given = request([{"role": "user", "content": "x"}, {"role": "assistant", "content": "Zero, ", "name": "n"}])
    found = continued_request(given, SAID, PLAIN, 3)
    assert found is not None
    assert found.fields["messages"][1:] == [{"role": "assistant", "content": "Zero, One, two,", "name": "n"}]


@pytest.mark.parametrize(
    "given",
    [
        request(n=2),
        request(response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}),
        request(response_format={"type": "json_object"}),
        request(tool_choice="required", tools=[]),
        request(tool_choice={"type": "function", "function": {"name": "f"}}),
        request([{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]),
    ],
)
def test_where_it_cannot_be_gone_on_with(given: ModelRequest) -> None:
    assert continued_request(given, SAID, PLAIN, 3) is None


def test_what_is_not_plain_or_has_no_style_is_not_gone_on_with() -> None:
    assert continued_request(request(), Said("a", plain=False, opening={}), PLAIN, 3) is None
    assert continued_request(request(), Said("", plain=False, opening={}), PLAIN, 3) is None
    assert continued_request(request(), SAID, None, 3) is None


REASONING: list[tuple[dict[str, Any], bool]] = [
    ({"reasoning_effort": "high"}, True),
    ({"reasoning_effort": "none"}, False),
    ({"reasoning": {"max_tokens": 2000}}, True),
    ({"reasoning": {"enabled": False}}, False),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, True),
    ({"thinking": {"type": "disabled"}}, False),
    ({}, False),
]


@pytest.mark.parametrize(("members", "reasons"), REASONING)
def test_a_prefill_that_excludes_reasoning_is_not_sent_with_it(members: dict[str, Any], reasons: bool) -> None:
    claude = prefill_style(of("anthropic"), OPUS_4_5)
    assert (continued_request(request(**members), SAID, claude, 3) is None) == reasons
    assert continued_request(request(**members), SAID, PLAIN, 3) is not None


@pytest.mark.parametrize(
    ("dialect", "model", "where", "last"),
    [
        (
            "anthropic_messages",
            OPUS_4_5,
            "messages",
            {"role": "assistant", "content": [{"type": "text", "text": "One,  two,"}]},
        ),
        (
            "bedrock_converse",
            "anthropic.claude-3-haiku",
            "messages",
            {"role": "assistant", "content": [{"text": "One,  two,"}]},
        ),
        ("gemini_generate_content", "gemini-2.5-pro", "contents", {"role": "model", "parts": [{"text": "One,  two,"}]}),
    ],
)
def test_every_dialect_carries_it(dialect: Any, model: str, where: str, last: dict[str, Any]) -> None:
    said = Said("One,  two, \n", plain=True, opening={})
    found = continued_request(request(), said, PLAIN, 3)
    assert found is not None
    encoded = Dialects()[dialect].encode("chat.completions", found, model, Provider("p", dialect, "https://h.example"))
    assert json.loads(encoded.body)[where][-1] == last


def test_bedrock_cuts_the_white_space_of_a_callers_own_beginning() -> None:
    given = request([{"role": "user", "content": "x"}, {"role": "assistant", "content": "Well, \n"}])
    provider = Provider("p", "bedrock_converse", "https://h.example")
    encoded = Dialects()["bedrock_converse"].encode("chat.completions", given, "anthropic.claude-3-haiku", provider)
    assert json.loads(encoded.body)["messages"][-1]["content"] == [{"text": "Well,"}]
