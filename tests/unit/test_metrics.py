"""Specifies the metrics line: every metric of the table can come, none that is not in it, no dimension of a caller's making,
and nothing of one request in another's line."""

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Price
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.observability.metrics import (
    CIRCUIT_METRICS,
    METRICS,
    NAMESPACE,
    OTHER,
    CircuitMetrics,
    RequestMetrics,
    configured_models,
)

RECORD = RequestRecord(
    request_id="req_1",
    at_ms=1_700_000_000_000,
    endpoint="chat.completions",
    key="search-prod",
    key_id="abc",
    team="search",
    user=None,
    requested_model="fast",
    provider="openai",
    routed_model="gpt-4.1-mini",
    stream=True,
    status="settled",
    expires_at=1_700_000_900,
    usage=Usage(input_tokens=100, cached_tokens=40, output_tokens=7),
    cost_usd=Decimal("0.00123"),
    latency_ms=900,
    ttft_ms=150,
)
KNOWN = frozenset({"openai:gpt-4.1-mini"})


@pytest.fixture
def metrics() -> RequestMetrics:
    return RequestMetrics("llm-gateway", KNOWN.__contains__)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_stream_says_everything_but_errors(metrics: RequestMetrics, capsys: pytest.CaptureFixture[str]) -> None:
    metrics.finished(RECORD, 0.0042)
    (line,) = lines(capsys)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == NAMESPACE
    assert directive["Dimensions"] == [["service"], ["service", "provider", "model"]]
    assert {one["Name"]: one["Unit"] for one in directive["Metrics"]} == {
        name: metric.unit for name, metric in METRICS.items() if name != "Errors"
    }
    assert {name: line[name] for name in ("service", "provider", "model")} == {
        "service": "llm-gateway",
        "provider": "openai",
        "model": "gpt-4.1-mini",
    }
    assert {name: line[name] for name in METRICS if name in line} == {
        "Requests": [1.0],
        "Latency": [900.0],
        "TimeToFirstToken": [150.0],
        "Overhead": [4.2],
        "InputTokens": [100.0],
        "CachedTokens": [40.0],
        "OutputTokens": [7.0],
        "Cost": [0.00123],
    }


def test_the_table_says_in_which_dimensions(metrics: RequestMetrics, capsys: pytest.CaptureFixture[str]) -> None:
    metrics.finished(replace(RECORD, status="failed"), 0.001)
    (line,) = lines(capsys)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    emitted = {one["Name"] for one in directive["Metrics"]}
    assert emitted == set(METRICS)
    for metric in METRICS.values():
        assert [list(one) for one in metric.dimension_sets] == directive["Dimensions"]


def test_a_failure_before_anything_came_has_no_tokens_and_no_times(
    metrics: RequestMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = replace(RECORD, status="failed", usage=Usage(), cost_usd=None, ttft_ms=None, latency_ms=None)
    metrics.finished(failed, 0.0)
    (line,) = lines(capsys)
    assert {name for name in METRICS if name in line} == {"Requests", "Errors", "Overhead"}


@pytest.mark.parametrize(
    ("provider", "model", "shown"),
    [
        ("openai", "gpt-4.1-mini", ("openai", "gpt-4.1-mini")),
        ("openai", "whatever-a-caller-says", ("openai", OTHER)),
        ("groq", "gpt-4.1-mini", ("groq", OTHER)),
        ("openai", "gpt-4.1-mini\u00e9", ("openai", OTHER)),
        ("", "", (OTHER, OTHER)),
    ],
)
def test_a_caller_mints_no_dimension(
    provider: str, model: str, shown: tuple[str, str], metrics: RequestMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics.finished(replace(RECORD, provider=provider, routed_model=model), 0.001)
    (line,) = lines(capsys)
    assert (line["provider"], line["model"]) == shown


def test_a_name_that_cloudwatch_does_not_take_is_other_even_if_it_is_configured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = RequestMetrics("llm-gateway", lambda _: True)
    metrics.finished(replace(RECORD, provider="modèle", routed_model="modèle"), 0.001)
    (line,) = lines(capsys)
    assert (line["provider"], line["model"]) == (OTHER, OTHER)


async def test_requests_at_once_have_lines_of_their_own(
    metrics: RequestMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    async def request(number: int) -> None:
        await asyncio.sleep(0)
        metrics.finished(replace(RECORD, latency_ms=number, ttft_ms=number if number % 2 else None), 0.001)

    await asyncio.gather(*(request(number) for number in range(1, 151)))
    written = lines(capsys)
    assert sorted(line["Latency"][0] for line in written) == list(range(1, 151))
    for line in written:
        assert line["Requests"] == [1.0]
        assert ("TimeToFirstToken" in line) == (line["Latency"][0] % 2 == 1)


def test_configured_models_are_those_an_operator_wrote_down() -> None:
    catalog = Catalog(
        providers={},
        aliases={"fast": Alias("fast", (Deployment("corp", "small-1"), Deployment("openai", "gpt-4.1-mini")))},
        prices={"groq:llama": Price(input="1", output="2")},
    )
    assert configured_models(catalog) == {"corp:small-1", "openai:gpt-4.1-mini", "groq:llama"}


def test_deployments_that_are_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    """One of two regions counts as its model; what callers make up is one metric."""
    deployments = (Deployment("corp", "small-1", region="eu"), Deployment("corp", "small-1", region="us"))
    catalog = Catalog(providers={}, aliases={"fast": Alias("fast", deployments)})
    metrics = CircuitMetrics("llm-gateway", lambda: catalog)
    metrics.failing(["corp:small-1@eu", "corp:small-1@us", "openai:made-up", "openai:made-up-too"])
    written = lines(capsys)
    assert [(line["provider"], line["model"]) for line in written] == [("corp", "small-1"), ("openai", OTHER)]
    for line in written:
        assert {name: line[name] for name in CIRCUIT_METRICS} == {"CircuitOpen": [1.0]}
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == NAMESPACE
        assert directive["Dimensions"] == [list(one) for one in CIRCUIT_METRICS["CircuitOpen"].dimension_sets]
        assert [one["Name"] for one in directive["Metrics"]] == list(CIRCUIT_METRICS)
