"""Builds the catalog: shipped rows, under what the environment says, under what operators configured.

On the way of every cold start and of every refresh of the registry, so it validates by hand and not with pydantic:
documents were validated when they were applied. One that is broken all the same raises `ConfigError` with its name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

from llm_gateway.catalog.documents import Document
from llm_gateway.catalog.endpoints import azure_endpoint, azure_streams_usage, base_url_fault, complete_base_url
from llm_gateway.catalog.faults import ConfigError, did_you_mean, one_of
from llm_gateway.catalog.operator_prices import read_price
from llm_gateway.catalog.policies import read_organisation, read_policies
from llm_gateway.catalog.providers import DEFAULT_REGION, ProviderRow, canonical, provider_rows
from llm_gateway.catalog.strategies import read_strategy
from llm_gateway.domain.catalog import (
    Alias,
    Catalog,
    CircuitPolicy,
    Credential,
    Deployment,
    Dialect,
    Prefill,
    Provider,
    Quirks,
    Recovery,
    Timeouts,
    markup_factor,
)
from llm_gateway.domain.limits import Abandoned
from llm_gateway.domain.ports import RegistryEntry

DEFAULT_PROVIDER = "openai"

_TIMEOUT_KINDS = Timeouts.__dataclass_fields__.keys()


def build_catalog(entries: Sequence[RegistryEntry], environment: Mapping[str, str]) -> Catalog:
    """The catalog of this moment. `entries` win over `environment`, which wins over the shipped rows.

    Read from the environment: LLM_PROVIDER, LLM_MODEL, AWS_REGION, and what the rows name (`base_url_env`,
    `api_version_env`, `header_env`). Raises `ConfigError`, naming the entry or the variable at fault.
    """
    by_kind: dict[str, dict[str, Document]] = {}
    for entry in entries:
        by_kind.setdefault(entry.kind, {})[entry.name] = Document(f"{entry.kind} {entry.name}", entry.document)
    settings = by_kind.get("settings", {}).get("gateway", Document("settings gateway", {}))
    configured = {canonical(name): document for name, document in by_kind.get("provider", {}).items()}

    providers = {
        name: _provider(name, configured.get(name), environment)
        for name in dict.fromkeys([*provider_rows(), *configured])
    }
    aliases = {name: _alias(name, document) for name, document in by_kind.get("model", {}).items()}
    return Catalog(
        providers=providers,
        aliases=aliases,
        default_provider=_default_provider(settings, environment, providers),
        default_model=settings.get("default_model", str) or environment.get("LLM_MODEL") or None,
        cors_origins=tuple(settings.strings("cors_origins")),
        x_gateway=settings.get("x_gateway", bool, default=True),
        prices={
            name: read_price(document.fields, document.fault) for name, document in by_kind.get("price", {}).items()
        },
        markups={
            team: factor
            for team, document in by_kind.get("team", {}).items()
            if (factor := _markup(document)) is not None
        },
        organisation=read_organisation(by_kind),
        policies=read_policies(by_kind),
        abandoned=settings.choice("abandoned", Abandoned, "charge"),
        regional={
            (each.provider, each.region): _provider(
                each.provider, configured.get(each.provider), environment, each.region
            )
            for alias in aliases.values()
            for each in alias.all_deployments
            if each.region is not None and each.provider in providers
        },
        circuit=_circuit(settings.table("circuit")),
    )


def build_provider(name: str, document: Mapping[str, Any], environment: Mapping[str, str]) -> Provider:
    """One provider as `build_catalog` would make it of this document. Raises `ConfigError`."""
    return _provider(name, Document(f"provider {name}", document), environment)


def _provider(
    name: str, document: Document | None, environment: Mapping[str, str], region: str | None = None
) -> Provider:
    """`region` is a deployment's own, and wins over the provider's."""
    rows = provider_rows()
    given = document or Document(f"provider {name}", {})
    like = given.get("like", str)
    row = rows.get(canonical(like)) if like else rows.get(name)
    if like and row is None:
        raise given.fault(f'like: "{like}" is not a vendor the gateway knows')
    row = row or ProviderRow(name=name, display_name=name, dialect="openai_chat", docs="")

    region = region or given.get("region", str) or environment.get("AWS_REGION")
    base_url, quirks = _endpoint(name, row, given, environment, region or DEFAULT_REGION)
    headers = dict(row.headers)
    headers.update(
        {header: environment[variable] for header, variable in row.header_env.items() if environment.get(variable)}
    )
    return Provider(
        name=name,
        dialect=given.choice("dialect", Dialect, row.dialect),
        base_url=base_url,
        credential=given.choice("credential", Credential, row.credential),
        credential_header=given.get("credential_header", str, row.credential_header),
        secret=name if like else row.secret or name,
        region=region,
        headers=_merged_headers(headers, given.string_map("headers")),
        quirks=_quirks(given.table("quirks"), quirks),
        display_name=given.get("display_name", str, row.display_name),
        enabled=given.get("enabled", bool, default=True),
        price_as=given.get("price_as", str, row.price_as or (row.name if like else None)),
        switched_off=frozenset(
            model for model, each in given.table("models").fields.items() if each.get("enabled") is False
        ),
    )


def _endpoint(
    name: str, row: ProviderRow, given: Document, environment: Mapping[str, str], region: str
) -> tuple[str | None, Quirks]:
    """The base URL in its final form, and the quirks that come with it."""
    url: str | None = given.get("base_url", str)
    source = f"{given.name}: base_url"
    if url is None and row.name == name:
        # A provider that is merely like this vendor has its own address, never that of the environment.
        variable = next((variable for variable in row.base_url_env if environment.get(variable)), None)
        url, source = (environment[variable], f"environment: {variable}") if variable else (None, source)
    if url is not None and (fault := base_url_fault(url)):
        raise ConfigError([f"{source}: {fault}"])
    url = row.base_url if url is None else complete_base_url(url, row.base_url_style)
    if url is not None:
        url = url.replace("{region}", region)

    version: str | None = given.get("api_version", str)
    if version is None and row.name == name:
        version = next((environment[each] for each in row.api_version_env if environment.get(each)), None)
    quirks = row.quirks
    if url is not None and row.base_url_style == "azure":
        if not azure_streams_usage(version):
            quirks = replace(quirks, stream_usage="never")
        url, model_in_path, query = azure_endpoint(url, version)
        return url, replace(quirks, model_in_path=model_in_path, query={**quirks.query, **query})
    if version is not None:
        quirks = replace(quirks, query={**quirks.query, "api-version": version})
    return url, quirks


def _merged_headers(base: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    """`over` replaces headers of the same name, however the two are capitalised."""
    replaced = {header.lower() for header in over}
    return {**{header: value for header, value in base.items() if header.lower() not in replaced}, **over}


def _quirks(given: Document, base: Quirks) -> Quirks:
    if not given.fields:
        return base
    return Quirks(
        stream_usage=given.choice("stream_usage", Literal["ask", "always", "never"], base.stream_usage),
        model_in_path=given.get("model_in_path", bool, base.model_in_path),
        envelope=given.choice("envelope", Literal["native", "bedrock", "vertex"], base.envelope),
        rename={**base.rename, **given.string_map("rename")},
        drop=(*base.drop, *given.strings("drop")),
        refuse=(*base.refuse, *given.strings("refuse")),
        developer_role=given.get("developer_role", bool, base.developer_role),
        drop_from_messages=(*base.drop_from_messages, *given.strings("drop_from_messages")),
        tool_call_ids=given.choice("tool_call_ids", Literal["alnum9"], base.tool_call_ids),
        tells_cost=given.get("tells_cost", bool, base.tells_cost),
        caps_hosts=given.get("caps_hosts", bool, base.caps_hosts),
        query={**base.query, **given.string_map("query")},
        moderations=given.choice("moderations", Literal["openai", "mistral"], base.moderations),
        free=(*base.free, *given.strings("free")),
        prefill=given.choice("prefill", Prefill, base.prefill),
    )


def _alias(name: str, document: Document) -> Alias:
    # A deployment may name a provider that is gone: routing passes over it, and the rest of the catalog still serves.
    deployments = tuple(
        Deployment(
            provider=canonical(each.need("provider", str)),
            model=each.need("model", str),
            weight=each.get("weight", int, default=1),
            region=each.get("region", str),
            key=each.get("key", str),
        )
        for each in document.tables("deployments")
    )
    if not deployments:
        raise document.fault("deployments: is empty")
    return Alias(
        name,
        deployments,
        fallbacks=tuple(document.strings("fallbacks")),
        timeouts=Timeouts(**_numbers(document.table("timeouts"), _TIMEOUT_KINDS)),
        context_window_fallbacks=tuple(document.strings("context_window_fallbacks")),
        content_policy_fallbacks=tuple(document.strings("content_policy_fallbacks")),
        retries=document.get("retries", int),
        stream_recovery=document.choice("stream_recovery", Recovery, "continue"),
        **read_strategy(document),
    )


def _circuit(document: Document) -> CircuitPolicy:
    usual = CircuitPolicy()
    numbers = _numbers(document, ("error_rate", "cool_down_s"))
    return CircuitPolicy(
        failures=document.get("failures", int, usual.failures),
        error_rate=numbers.get("error_rate", usual.error_rate),
        cool_down_s=numbers.get("cool_down_s", usual.cool_down_s),
    )


def _numbers(document: Document, names: Iterable[str]) -> dict[str, float]:
    return {name: document.number(name) for name in names if document.fields.get(name) is not None}


def _markup(document: Document) -> Decimal | None:
    text = document.get("markup", str)
    if text is None:
        return None
    try:
        return markup_factor(text)
    except ValueError as error:
        raise document.fault(f"markup: {error}") from None


def _default_provider(settings: Document, environment: Mapping[str, str], providers: Mapping[str, Provider]) -> str:
    if given := settings.get("default_provider", str):
        source, name = "settings gateway: default_provider", given
    elif given := environment.get("LLM_PROVIDER"):
        source, name = "environment: LLM_PROVIDER", given
    else:
        return DEFAULT_PROVIDER
    if canonical(name) not in providers:
        known = did_you_mean(canonical(name), providers) or f"; known: {one_of(providers)}"
        raise ConfigError([f'{source}: "{name}" is not a provider{known}'])
    return canonical(name)
