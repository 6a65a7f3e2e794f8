"""Metrics: one line in CloudWatch's embedded metric format (EMF) a finished request, by Powertools; and of failing
deployments.

Sources: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
and https://docs.powertools.aws.dev/lambda/python/latest/core/metrics/ (`EphemeralMetrics`).
"""

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal

import orjson
from aws_lambda_powertools.metrics import EphemeralMetrics

from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.observability.logs import request_fields

NAMESPACE: Final = "LLMGateway"
OTHER: Final = "other"

Name = Literal[
    "Requests",
    "Errors",
    "Latency",
    "TimeToFirstToken",
    "Overhead",
    "InputTokens",
    "CachedTokens",
    "OutputTokens",
    "Cost",
]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as CloudWatch knows it. It is emitted once in each of `dimension_sets`."""

    unit: Literal["Count", "Milliseconds", "None"]
    meaning: str
    dimension_sets: tuple[tuple[str, ...], ...] = (("service",), ("service", "provider", "model"))


METRICS: Final[dict[Name, Metric]] = {
    "Requests": Metric("Count", "requests that came to a ledger entry"),
    "Errors": Metric("Count", "those that failed, before the first byte or after it"),
    "Latency": Metric("Milliseconds", "from the request to the caller's last byte"),
    "TimeToFirstToken": Metric("Milliseconds", "from the request to the first content of a stream"),
    "Overhead": Metric("Milliseconds", "spent on our side until the answer was ready"),
    "InputTokens": Metric("Count", "read, cached ones included"),
    "CachedTokens": Metric("Count", "read from the provider's prompt cache"),
    "OutputTokens": Metric("Count", "written, reasoning included"),
    "Cost": Metric(
        "None", "US dollars, rounded to a float: a picture of the spending, of which the ledger is the truth"
    ),
}
"""All of a request; the template's dashboard and alarms are tested against it. `service` is the stack's name."""


CIRCUIT_METRICS: Final[dict[Literal["CircuitOpen"], Metric]] = {
    "CircuitOpen": Metric(
        "Count", "1 for each deployment that is passed over, every 2 s of requests while there are any"
    )
}
"""What an environment sees of deployments: to be read by its maximum. No data where all are well."""


def configured_models(catalog: Catalog) -> frozenset[str]:
    """The `provider:model` names that an operator wrote down: deployments of aliases, and prices."""
    deployed = {f"{one.provider}:{one.model}" for alias in catalog.aliases.values() for one in alias.all_deployments}
    return frozenset(deployed.union(catalog.prices))


class KnownModels:
    """Whether an operator wrote a `provider:model` down, in the catalog that `latest` gives."""

    def __init__(self, latest: Callable[[], Catalog | None]) -> None:
        self._latest = latest
        self._catalog: Catalog | None = None
        self._names: frozenset[str] = frozenset()

    def __call__(self, name: str) -> bool:
        catalog = self._latest()
        if catalog is not self._catalog and catalog is not None:
            self._catalog, self._names = catalog, configured_models(catalog)
        return name in self._names


class RequestMetrics:
    """Emits what a finished request came to, to standard output, where Lambda's log picks it up.

    The line is the request's log line too: beside the metrics it holds the fields of `logs.request_fields`.
    `known` says whether a `provider:model` may be a dimension. All others are `other`: every value is a metric that is
    paid for, and callers choose the names of models. One instance serves any number of concurrent requests of an event
    loop: `finished` has no await in it, and leaves nothing behind.
    """

    def __init__(self, service: str, known: Callable[[str], bool]) -> None:
        self._service = {"service": service}
        self._known = known
        self._metrics = EphemeralMetrics(namespace=NAMESPACE, service=service)

    def finished(self, record: RequestRecord, overhead_s: float) -> None:
        provider, model = self._dimensions(record)
        values = _values(record, overhead_s)
        fields = {"level": "INFO", "message": "request", **request_fields(record, overhead_s)}
        del fields["provider"]  # a dimension already, where it can be one
        # Powertools' own serialisation, in one call: metric by metric and flushed, a request costs four times as much.
        self._metrics.dimension_sets = [{**self._service, "provider": provider, "model": model}]
        line = self._metrics.serialize_metric_set(
            metrics={name: {"Unit": METRICS[name].unit, "Value": [value]} for name, value in values},
            dimensions=self._service,
            metadata=fields,
        )
        sys.stdout.write(orjson.dumps(line, default=str).decode() + "\n")

    def _dimensions(self, record: RequestRecord) -> tuple[str, str]:
        return _dimensions(record.provider or OTHER, record.routed_model, self._known)


class CircuitMetrics:
    """Emits which deployments are passed over. Of the catalog that `latest` gives, as `RequestMetrics`."""

    def __init__(self, service: str, latest: Callable[[], Catalog | None]) -> None:
        self._service = {"service": service}
        self._known = KnownModels(latest)
        self._latest = latest
        self._metrics = EphemeralMetrics(namespace=NAMESPACE, service=service)

    def failing(self, names: Collection[str]) -> None:
        """`names` are deployments' (`Deployment.name`). One line for each `provider:model`."""
        named = self._deployments()
        shown = {_dimensions(*(named.get(name) or _split(name)), self._known) for name in names}
        for provider, model in sorted(shown):
            self._metrics.dimension_sets = [{**self._service, "provider": provider, "model": model}]
            line = self._metrics.serialize_metric_set(
                metrics={name: {"Unit": one.unit, "Value": [1]} for name, one in CIRCUIT_METRICS.items()},
                dimensions=self._service,
                metadata={"level": "INFO", "message": "circuit_open"},
            )
            sys.stdout.write(orjson.dumps(line, default=str).decode() + "\n")

    def _deployments(self) -> dict[str, tuple[str, str]]:
        catalog = self._latest()
        aliases = () if catalog is None else catalog.aliases.values()
        return {one.name: (one.provider, one.model) for alias in aliases for one in alias.all_deployments}


def _split(name: str) -> tuple[str, str]:
    provider, _, model = name.partition(":")
    return provider, model


def _dimensions(provider: str, model: str, known: Callable[[str], bool]) -> tuple[str, str]:
    # CloudWatch takes ASCII alone, and drops the whole line otherwise.
    if not provider.isascii() or not model.isascii() or not known(f"{provider}:{model}"):
        model = OTHER
    return (provider if provider.isascii() else OTHER), model


def _values(record: RequestRecord, overhead_s: float) -> list[tuple[Name, float]]:
    """What there is to say: zero counts and unknown times are left out, so that averages and percentiles stay true."""
    usage = record.usage
    values: list[tuple[Name, float]] = [("Requests", 1), ("Overhead", overhead_s * 1000)]
    if record.status == "failed":
        values.append(("Errors", 1))
    if record.latency_ms is not None:
        values.append(("Latency", record.latency_ms))
    if record.ttft_ms is not None:
        values.append(("TimeToFirstToken", record.ttft_ms))
    if usage.input_tokens:
        values.append(("InputTokens", usage.input_tokens))
    if usage.cached_tokens:
        values.append(("CachedTokens", usage.cached_tokens))
    if usage.output_tokens:
        values.append(("OutputTokens", usage.output_tokens))
    if record.cost_usd:
        values.append(("Cost", float(record.cost_usd)))
    return values
