"""Specifies the upper bound of a request: what each kind of content counts at most, and what cannot be bounded."""

import base64
import json
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import InvalidRequest
from llm_gateway.metering.bound import Bound, upper_bound
from llm_gateway.metering.bound_input import text_tokens
from llm_gateway.metering.estimate import estimate_request_tokens
from tests.unit.test_estimate import COUNTED

OPENAI = Provider("openai", "openai_chat", "https://api.openai.com/v1")
ANTHROPIC = Provider("anthropic", "anthropic_messages", "https://api.anthropic.com/v1")
BEDROCK = Provider("bedrock", "bedrock_converse", "https://bedrock-runtime.eu-west-1.amazonaws.com")
GEMINI = Provider("gemini", "gemini_generate_content", "https://generativelanguage.googleapis.com/v1beta")
KNOWN = {"anthropic_messages": ANTHROPIC, "bedrock_converse": BEDROCK, "gemini_generate_content": GEMINI}
GOLDEN = Path(__file__).parent.parent / "golden"
CORP = Provider("corp", "openai_chat", "https://llm.corp.example/v1")
ECHO = Provider("echo", "openai_chat", None)
OPENROUTER = Provider(
    "openrouter", "openai_chat", "https://openrouter.ai/api/v1", quirks=Quirks(tells_cost=True, caps_hosts=True)
)

HI = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages or (HI,)), **more}


def of(fields: dict[str, Any], provider: Provider = CORP, model: str = "small-1", window: int | None = None) -> Bound:
    return upper_bound(fields, "chat.completions", provider, model, window)


def tokens(*parts: Any, provider: Provider = OPENAI, model: str = "gpt-4o", window: int | None = None) -> int:
    """What `parts` add to the bound of an otherwise empty user message, the frame of each left out."""
    empty = of(chat({"role": "user", "content": []}), provider, model, window).input_tokens
    whole = of(chat({"role": "user", "content": list(parts)}), provider, model, window).input_tokens
    return whole - empty - 8 * len(parts)


def image(detail: str | None = None, url: str = PNG) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **({} if detail is None else {"detail": detail})}}


def wav(seconds: int, rate: int = 8000, bits: int = 16, coding: int = 1) -> dict[str, Any]:
    size = seconds * rate * bits // 8
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    head += coding.to_bytes(2, "little") + (1).to_bytes(2, "little") + rate.to_bytes(4, "little")
    head += (rate * bits // 8).to_bytes(4, "little") + (bits // 8).to_bytes(2, "little") + bits.to_bytes(2, "little")
    data = base64.b64encode(head + b"data" + size.to_bytes(4, "little") + bytes(size)).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def refusal(fields: dict[str, Any], provider: Provider = CORP, model: str = "small-1") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        of(fields, provider, model)
    assert caught.value.http_status == 400
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("hello", 5),
        ("naïve", 6),
        ("猫", 3),
        ("🚀", 4),
        ("\ud800", 3),
        # Forms that a tokenizer may bring a text into, and that are longer than the text.
        ("\u0958", 6),
        ("\U0001d160", 12),
        ("\ufdfa", len(unicodedata.normalize("NFKC", "\ufdfa").encode())),
    ],
)
def test_a_text_counts_at_most_its_bytes_in_its_longest_form(text: str, expected: int) -> None:
    assert text_tokens(text) == expected


@pytest.mark.parametrize(("text", "counted"), [(text, counted) for _, text, counted in COUNTED])
def test_a_real_tokenizers_count_is_within_the_bound(text: str, counted: int) -> None:
    assert counted <= text_tokens(text)


@given(st.text())
def test_no_tokenizer_on_bytes_or_characters_makes_more_of_a_text(text: str) -> None:
    for form in (text, *(unicodedata.normalize(each, text) for each in ("NFC", "NFKC"))):
        assert len(form) <= len(form.encode("utf-8", "surrogatepass")) <= text_tokens(text)


def test_a_message_counts_its_text_and_a_frame() -> None:
    assert of(chat()).input_tokens == 64 + 8 + len("user") + len("hi")
    assert of(chat(HI, {"role": "assistant", "content": None, "name": "bot"})).input_tokens == (
        of(chat()).input_tokens + 8 + len("assistant") + len("bot")
    )
    assert of(chat({"role": "user", "content": [{"type": "text", "text": "hi"}]})).input_tokens == 64 + 8 + 8 + 6


def test_the_echo_provider_adds_next_to_nothing() -> None:
    assert of(chat(), ECHO, "any").input_tokens == 3 + 3 + len("user") + len("hi")
    assert of(chat(tools=[TOOL]), ECHO, "any").input_tokens == 12 + 16 + 2 * len(
        json.dumps([TOOL], separators=(",", ":"))
    )


def test_tools_and_schemas_count_as_indented_text_and_with_their_preamble() -> None:
    plain = of(chat()).input_tokens
    size = len(json.dumps([TOOL], separators=(",", ":")))
    assert of(chat(tools=[TOOL])).input_tokens == plain + 256 + 16 + 2 * size
    claude = of(chat(tools=[TOOL]), ANTHROPIC, "claude-opus-4-7").input_tokens
    assert claude == plain + 1024 + 16 + 2 * size
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    assert of(chat(response_format=schema)).input_tokens >= plain + 256 + len(json.dumps(schema))


def test_a_history_of_calls_counts_as_tools_since_some_wires_describe_them() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":"é"}'}}
    found = of(chat(HI, {"role": "assistant", "tool_calls": [call]})).input_tokens
    assert found >= of(chat()).input_tokens + 256 + len(json.dumps([call]))


@pytest.mark.parametrize(
    ("model", "detail", "expected"),
    [
        ("gpt-4o", None, 1445),
        ("gpt-4o-2024-11-20", "high", 1445),
        ("gpt-4o", "low", 85),
        ("gpt-4o-mini", "auto", 48169),
        ("gpt-4o-mini", "low", 2833),
        ("gpt-4.1-nano", None, 3779),
        ("o3", "high", 2642),
        ("gpt-5.5", "original", 24600),
        ("gpt-5.5", "high", 6150),
        ("gpt-6-sol", "low", 630),
    ],
)
def test_an_image_counts_what_the_models_guide_says_at_most(model: str, detail: str | None, expected: int) -> None:
    assert tokens(image(detail), model=model) == expected
    assert tokens(image(detail), image(detail), provider=CORP, model=model) == 2 * expected


def test_images_of_other_vendors() -> None:
    assert tokens(image(), provider=ANTHROPIC, model="claude-sonnet-4-5") == 1600
    assert tokens(image(), provider=BEDROCK, model="eu.anthropic.claude-opus-4-7-v1:0") == 4784
    assert tokens({"type": "image", "source": {}}, provider=ANTHROPIC, model="claude-opus-5") == 4784
    assert tokens(image(), provider=GEMINI, model="gemini-2.5-pro") == 6450
    assert tokens(image(), provider=GEMINI, model="gemini-3-pro-preview") == 2464
    assert tokens(image(), provider=OPENROUTER, model="anthropic/claude-opus-4.7") == 4784


@pytest.mark.parametrize("model", ["gemini-1.5-pro", "gemini-2.0-flash", "gemini-2.5-pro"])
def test_an_image_of_any_shape_is_within_geminis_bound(model: str) -> None:
    """Fitted into 3072 x 3072, then cut into squares of two thirds of the shorter side, of 256 to 768 pixels."""
    most = 0
    for shorter in range(1, 3073):
        tile = min(768, max(256, int(shorter / 1.5)))
        most = max(most, -(-3072 // tile) * -(-shorter // tile))
    assert most == 24
    assert tokens(image(), provider=GEMINI, model=model) >= 258 * (most + 1)  # and one of the whole


@pytest.mark.parametrize(
    ("model", "provider", "part"),
    [
        ("gpt-6-sol", OPENAI, image()),  # its guide knows no largest image
        ("gpt-6-sol", OPENAI, image("original")),
        ("small-1", CORP, image()),
        ("gpt-4o", OPENAI, {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}),
        ("gpt-4o", OPENAI, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "opus"}}),
        ("gpt-4o", OPENAI, {"type": "hologram"}),
        ("gpt-4o", OPENAI, "not a part"),
        ("gpt-4o", OPENAI, image(url="data:application/pdf;base64,AAAA")),
        # Gemini takes what it finds at a URL for what it is, such as a film.
        ("gemini-2.5-pro", GEMINI, image(url="https://youtu.be/x")),
        ("gemini-2.5-pro", GEMINI, image(url="data:video/mp4;base64,AAAA")),
    ],
)
def test_what_only_the_context_window_bounds(model: str, provider: Provider, part: Any) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "see"}, part]}
    bound = of(chat(message), provider, model, 100_000)
    known = {"gpt-4o": 128_000, "gemini-2.5-pro": 1_048_576}
    assert bound.input_tokens == known.get(model, 104_858)  # the book rounds 104,858 to 100,000
    assert {"audio", "image", "video"} <= bound.kinds
    if model not in known:
        error = refusal(chat(message), provider, model)
        assert (error.error_code, error.param) == ("unbounded_cost", "messages[0].content[1]")


def test_a_window_that_is_known_bounds_text_and_one_of_the_book_does_not() -> None:
    long = {"role": "user", "content": "x" * 300_000}
    assert of(chat(long), OPENAI, "gpt-4o", 128_000).input_tokens == 128_000
    assert of(chat(long), CORP, "small-1", 128_000).input_tokens > 300_000


def test_audio_counts_by_the_longest_that_its_bytes_can_last() -> None:
    assert 600 <= tokens(wav(60, rate=4000), model="gpt-4o-audio-preview") <= 611
    assert 1920 <= tokens(wav(60), provider=GEMINI, model="gemini-2.5-flash") <= 1953
    mp3 = {"type": "input_audio", "input_audio": {"data": "A" * 4000, "format": "mp3"}}
    assert tokens(mp3, model="gpt-audio") == 30 + 10
    assert of(chat({"role": "user", "content": [mp3]}), OPENAI, "gpt-audio").kinds == {"audio"}


@pytest.mark.parametrize("part", [wav(1, coding=2), wav(1, bits=4), {"type": "input_audio", "input_audio": None}])
def test_audio_whose_length_its_bytes_do_not_tell_is_bounded_by_the_window(part: dict[str, Any]) -> None:
    assert of(chat({"role": "user", "content": [part]}), OPENAI, "gpt-audio").input_tokens == 128_000


def test_audio_that_lies_about_itself_is_not_cheaper() -> None:
    """A sample rate of 1 in the header makes each byte a second."""
    slow = wav(2000, rate=1, bits=8)
    assert tokens(slow, model="gpt-audio") >= 20_000
    broken = {"type": "input_audio", "input_audio": {"data": "é" * 60, "format": "wav"}}
    assert of(chat({"role": "user", "content": [broken]}), OPENAI, "gpt-audio").input_tokens == 128_000


def test_an_answer_kept_at_the_provider_is_of_unknown_length() -> None:
    message = {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}
    assert of(chat(HI, message), OPENAI, "gpt-audio").input_tokens == 128_000
    assert refusal(chat(HI, message)).param == "messages[1].audio"
    nothing: dict[str, Any] = {"role": "assistant", "content": "", "audio": None, "annotations": [], "made_up": {}}
    assert of(chat(HI, nothing)).input_tokens == of(chat()).input_tokens + 8 + len("assistant") + len("[]")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"max_tokens": 100}, 100),
        ({"max_tokens": None, "max_completion_tokens": 50}, 50),
        ({"max_tokens": 100, "max_completion_tokens": 50, "n": 3}, 300),
        ({"max_tokens": 100, "n": None}, 100),
    ],
)
def test_the_callers_maximum_times_the_answers(fields: dict[str, Any], expected: int | None) -> None:
    bound = of(chat(**fields))
    assert bound.output_tokens == expected
    assert bound.answers == (fields.get("n") or 1)


@pytest.mark.parametrize(
    ("provider", "model", "window", "expected"),
    [
        (OPENAI, "gpt-4o", 128_000, 16_384),
        (ANTHROPIC, "claude-sonnet-4-5", None, 64_000),
        (GEMINI, "gemini-2.5-pro", None, 65_536),
        (CORP, "small-1", 32_000, 33_555),
        (CORP, "small-1", None, None),
    ],
)
def test_the_models_own_maximum(provider: Provider, model: str, window: int | None, expected: int | None) -> None:
    assert of(chat(), provider, model, window).most_output_tokens == expected
    assert of(chat(n=2), provider, model, window).most_output_tokens == (None if expected is None else 2 * expected)


def test_no_maximum_by_zero() -> None:
    assert refusal(chat(max_tokens=0)).error_code == "unbounded_cost"


def test_a_prediction_is_billed_beside_the_answer_and_sets_the_maximum_aside() -> None:
    for content in ("four", [{"type": "text", "text": "four"}]):
        bound = of(chat(prediction={"type": "content", "content": content}, max_tokens=5, n=2), OPENAI, "gpt-4o")
        assert bound.predicted_tokens == 8
        assert bound.output_tokens == 2 * 16_384
    assert refusal(chat(prediction={"content": "x"})).param == "prediction"


def drawn(fields: dict[str, Any], model: str, provider: Provider = GEMINI, window: int | None = None) -> Bound:
    """The bound where the price book has a price of the answer's images."""
    return upper_bound(fields, "chat.completions", provider, model, window, prices_images=True)


@pytest.mark.parametrize(
    "model", ["gemini-2.5-flash-image", "models/gemini-3-pro-image-preview", "gemini-nano-banana-2.1", "brush-1"]
)
def test_a_model_of_images_draws_unasked_and_whatever_the_maximum(model: str) -> None:
    for more in ({}, {"modalities": ["text"]}, {"n": 2}):
        bound = drawn(chat(max_tokens=16, **more), model, window=62_500)
        assert bound.output_tokens == 65_536 * bound.answers
    with pytest.raises(InvalidRequest, match="longest answer is not known") as caught:
        drawn(chat(max_tokens=16), "brush-1")
    assert (caught.value.error_code, caught.value.param) == ("unbounded_cost", "model")


def test_images_without_a_price_are_refused() -> None:
    for fields, provider, model in (
        (chat(max_tokens=16), OPENROUTER, "google/gemini-2.5-flash-image"),
        (chat(max_tokens=16), OPENROUTER, "openai/gpt-5-image"),
        (chat(max_tokens=16, modalities=["image"]), GEMINI, "gemini-2.5-flash"),
    ):
        error = refusal(fields, provider, model)
        assert error.error_code == "unbounded_cost"
        assert "image_output" in error.message


@pytest.mark.parametrize(
    ("model", "more", "expected"),
    [
        ("grok-4.5", {}, 104_858),
        ("x-ai/grok-4-fast", {"n": 2}, 209_716),
        ("grok-4-fast-reasoning", {}, 104_858),
        ("grok-3-mini", {}, 131_072),
        ("grok-3", {}, 16),
        ("grok-4-fast-non-reasoning", {"n": 2}, 32),
        ("grok-2-1212", {}, 16),
        ("grok-3", {"tools": [TOOL]}, 131_072),
        ("grok-4-1-fast-non-reasoning", {"tools": [TOOL]}, 104_858),
    ],
)
def test_groks_maximum_holds_for_its_text_alone(model: str, more: dict[str, Any], expected: int) -> None:
    provider = Provider("xai", "openai_chat", "https://api.x.ai/v1")
    assert of(chat(max_tokens=16, **more), provider, model, 100_000).output_tokens == expected


def test_an_image_in_the_answer_is_made_whole() -> None:
    bound = drawn(chat(modalities=["text", "image"], max_tokens=5), "gemini-2.5-flash")
    assert bound.output_tokens == 65_536
    assert "audio_output" in of(chat(modalities=["text", "audio"], max_tokens=5)).kinds
    assert "audio_output" not in of(chat(modalities=["text"], max_tokens=5)).kinds


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"web_search_options": {}}, "web_search_options"),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        ({"models": ["a", "b"]}, "models"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"generationConfig": {"maxOutputTokens": 9}}, "generationConfig"),
        ({"extra_body": {}}, "extra_body"),
        ({"never_heard_of": False}, "never_heard_of"),
        ({"zeta": 1, "alpha": 1}, "zeta"),  # the first one, so that an answer does not change from time to time
        ({"nie\ngehört": 1}, "nie\\ngeh\\xf6rt"),
        ({"provider": {"sort": "price"}}, "provider"),
        ({"anthropic_beta": ["interleaved-thinking-2025-05-14", "advisor-tool-2026-03-01"]}, "anthropic_beta"),
        ({"anthropic_beta": "context-1m-2025-08-07, advisor-tool-2026-03-01"}, "anthropic_beta"),
        ({"anthropic_beta": [1]}, "anthropic_beta"),
        ({"anthropic_beta": 1}, "anthropic_beta"),
        ({"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"googleSearch": {}}]}, "tools[0].type"),
        ({"tools": ["x"]}, "tools[0].type"),
    ],
)
def test_what_leaves_the_cost_open_is_refused(fields: dict[str, Any], param: str) -> None:
    error = refusal(chat(**fields))
    assert (error.error_code, error.param, error.error_type) == ("unbounded_cost", param, "invalid_request_error")
    assert "hard budget" in error.message
    assert param in error.message


def test_null_says_nothing_and_what_is_harmless_passes() -> None:
    fields = chat(
        never_heard_of=None, web_search_options=None, plugins=[], temperature=1, seed=7, stop=["x"], logit_bias={"1": 2},
        tools=[TOOL, {"type": "custom", "custom": {"name": "x"}}], tool_choice="auto", stream=True,
        stream_options={"include_usage": True}, anthropic_beta="context-1m-2025-08-07,interleaved-thinking-2025-05-14", reasoning_effort="high", metadata={"a": "b"}, max_tokens=5,
    )  # fmt: skip
    assert of(fields).output_tokens == 5


@pytest.mark.parametrize("dialect", ["openai_chat", *KNOWN])
def test_what_callers_usually_send_is_not_refused(dialect: str) -> None:
    """Of the golden requests, only those that ask for what is charged apart, or for what nobody knows."""
    refused, bounded = {}, 0
    for path in sorted(GOLDEN.glob(f"{dialect}/*/request.json")):
        fields = json.loads(path.read_bytes())
        if "messages" not in fields:
            continue
        try:
            draws = "image" in (fields.get("modalities") or ())
            bounded_by = drawn if draws else of
            bound = bounded_by(
                fields, provider=KNOWN.get(dialect, OPENAI), model=fields.get("model") or "", window=200_000
            )
        except InvalidRequest as error:
            refused[path.parent.name] = error.param
        else:
            bounded += 1
            assert bound.input_tokens > 0
    assert bounded >= 5
    assert set(refused.values()) <= {
        "guardrail_config", "guardrailConfig", "performanceConfig", "additionalModelRequestFields", "cached_content",
        "tools[0].type", "future_field", "web_search_options", "models",
    }  # fmt: skip


def test_hosts_may_be_chosen_at_openrouter_alone() -> None:
    assert of(chat(provider={"sort": "price"}), OPENROUTER, "openai/gpt-4o").input_tokens > 0


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        (OPENAI, "gpt-4o-search-preview"),
        (OPENAI, "o3-deep-research"),
        (Provider("perplexity", "openai_chat", "https://api.perplexity.ai"), "sonar"),
        (OPENROUTER, "openai/gpt-4o:online"),
        (OPENROUTER, "openrouter/auto"),
        (Provider("groq", "openai_chat", "https://api.groq.com/openai/v1"), "groq/compound"),
        # By the vendor too, whatever the operator calls it.
        (Provider("pplx", "openai_chat", "https://api.perplexity.ai", price_as="perplexity"), "sonar-pro"),
        (Provider("or2", "openai_chat", "https://openrouter.ai/api/v1", price_as="openrouter"), "openrouter/auto"),
        (Provider("or3", "openai_chat", "https://openrouter.ai/api/v1"), "openrouter/auto"),
        (Provider("perplexity", "openai_chat", "https://api.perplexity.ai", price_as="openai"), "sonar"),
    ],
)
def test_models_that_spend_by_themselves_are_refused(provider: Provider, model: str) -> None:
    error = refusal(chat(), provider, model)
    assert (error.error_code, error.param) == ("unbounded_cost", "model")


@pytest.mark.parametrize(
    ("fields", "writes", "hour"),
    [
        (chat(), False, False),
        (chat(cache_control={"type": "ephemeral"}), True, False),
        (chat({**HI, "cache_control": {"type": "ephemeral", "ttl": "5m"}}), True, False),
        (
            chat({"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"ttl": "1h"}}]}),
            True,
            True,
        ),
        (chat(tools=[{**TOOL, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]), True, True),
        (chat(tools=[{**TOOL, "cache_control": {"type": "ephemeral"}}]), True, False),
    ],
)
def test_cache_writes_are_billed_where_the_caller_marks_them(fields: dict[str, Any], writes: bool, hour: bool) -> None:
    bound = of(fields, ANTHROPIC, "claude-opus-4-5")
    assert (bound.cache_writes, bound.hour_writes) == (writes, hour)
    assert of(fields, OPENAI, "gpt-5.6-sol").cache_writes  # caches by itself


def embeddings(given: Any, model: str = "text-embedding-3-small", **more: Any) -> Bound:
    return upper_bound({"input": given, **more}, "embeddings", OPENAI, model, 8192)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("hello", 5), (["hello", "猫"], 8), ([1, 2, 3], 3), ([[1, 2], [3]], 3)],
)
def test_embeddings_count_texts_and_token_numbers(given: Any, expected: int) -> None:
    bound = embeddings(given)
    assert (bound.input_tokens, bound.output_tokens, bound.most_output_tokens) == (expected, 0, 0)


def test_embeddings_of_other_things_and_with_unknown_fields() -> None:
    assert embeddings([{"image": "x"}]).input_tokens == 8590
    assert embeddings("a", dimensions=2, encoding_format="float", user="u").input_tokens == 1
    with pytest.raises(InvalidRequest, match="rerank"):
        embeddings("a", rerank=True)


def test_nesting_too_deep_is_refused_and_not_recursed_into() -> None:
    nested: Any = "x"
    for _ in range(1000):
        nested = [nested]
    error = refusal(chat(tools=[{**TOOL, "deep": nested}]))
    assert (error.http_status, error.param) == (400, "tools")


AUDIO = st.builds(wav, st.integers(0, 1), rate=st.sampled_from([8000, 48_000]), bits=st.sampled_from([8, 32]))
PARTS = st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}) | st.builds(image) | AUDIO
CONTENTS = st.text() | st.lists(PARTS, max_size=3)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": CONTENTS}),
    min_size=1,
    max_size=5,
)


@given(MESSAGES, st.lists(st.just(TOOL), max_size=3), st.sampled_from([(ECHO, "x"), (OPENAI, "gpt-4o"), (CORP, "x")]))
def test_a_bound_is_never_below_an_estimate(messages: list[Any], tools: list[Any], at: tuple[Provider, str]) -> None:
    """An estimate is what is billed where a provider counts nothing."""
    fields = chat(*messages, tools=tools)
    assert of(fields, *at, window=128_000).input_tokens >= estimate_request_tokens(fields)


@given(MESSAGES, st.text())
def test_more_text_never_bounds_less(messages: list[Any], more: str) -> None:
    longer = of(chat(*messages, {"role": "user", "content": more}), ECHO, "x").input_tokens
    assert longer > of(chat(*messages), ECHO, "x").input_tokens


def test_ten_kilobytes_take_microseconds() -> None:
    fields = chat({"role": "user", "content": "hello wor " * 1000}, max_tokens=100)
    of(fields)
    began = time.process_time()
    for _ in range(200):
        of(fields)
    assert (time.process_time() - began) / 200 < 0.0002  # measured: 7 µs, with letters beyond ASCII up to 26
