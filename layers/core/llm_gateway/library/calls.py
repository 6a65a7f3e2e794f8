"""From the arguments of one call to an exchange of the pipeline, which then runs as over HTTP.

What a call decides for itself (address, credentials, time) is a catalog and a dispatcher of its own: the pipeline knows
of no overrides, so no request over HTTP can ask for one.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import orjson

from llm_gateway.catalog.faults import did_you_mean, one_of
from llm_gateway.catalog.providers import canonical, provider_rows
from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Catalog, Provider
from llm_gateway.domain.ports import HttpClient
from llm_gateway.domain.tags import checked_tags
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import CredentialsMissing, InvalidRequest, ModelNotFound
from llm_gateway.library.overrides import Credentials, configured, read_credentials, takes_key, with_timeouts
from llm_gateway.library.parts import FixedCatalog, Providers, TeamCaller, log, with_provider
from llm_gateway.library.running import RunningCall
from llm_gateway.observability.telemetry import Telemetry
from llm_gateway.pipeline import gateway as pipeline
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.admission import Admission
from llm_gateway.pipeline.call import Call, new_request_id
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.pipeline.provider_keys import FirstKeys, GivenKeys, KeyResolver
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.resolve import named_providers, resolve
from llm_gateway.upstream.authorize import Authorizer, SignedByRole
from llm_gateway.upstream.credentials import StaticCredentials


@dataclass(frozen=True, slots=True)
class Wish:
    """The arguments of one call."""

    endpoint: Endpoint
    team: str
    fields: Mapping[str, Any]
    model: str | None
    provider: str | None
    credentials: Mapping[str, Any] | None
    config: Mapping[str, Any] | None
    tags: Mapping[str, str] | None
    stream: bool = False
    timeout_s: float | None = None


class Calls:
    """Makes exchanges.

    `settled` gets the record of each in the end. `environment` shapes providers (`build_catalog` says by which names),
    `region` is AWS's.
    """

    def __init__(
        self,
        http: HttpClient,
        providers: Providers,
        keys: KeyResolver,
        authorizers: Mapping[str, Authorizer],
        accounts: Accounts,
        admission: Admission,
        telemetry: Telemetry,
        settled: Callable[[RequestRecord], None],
        environment: Mapping[str, str],
        region: str,
    ) -> None:
        self._http = http
        self._providers = providers
        self._keys = FirstKeys(GivenKeys({}), keys)
        self._authorizers = authorizers
        self._dialects = Dialects()
        self._dispatcher = Dispatcher(http, self._keys, self._dialects, authorizers, log.warning)
        self._circuits = Circuits(time.monotonic)
        self._accounts = accounts
        self._admission = admission
        self._telemetry = telemetry
        self._settled = settled
        self._environment = environment
        self._region = region

    async def make(self, wish: Wish) -> RunningCall:
        """Raises `InvalidRequest` for arguments that make no sense together, `CredentialsMissing`."""
        if not wish.team:
            raise InvalidRequest("`team_id` must name a team.", param="team_id")
        catalog, dispatcher, model = await self._providers.current(), self._dispatcher, wish.model
        if wish.provider is not None:
            provider, credentials = await self._overridden(wish, _named(wish.provider, catalog))
            model = model or _only_model(wish, provider)
            catalog = with_provider(catalog, provider)
            if wish.config and wish.config.get("timeouts"):
                catalog = with_timeouts(catalog, provider.name, model, wish.config["timeouts"])
            dispatcher = self._dispatcher_for(provider, credentials)
            await self._check_credentials([provider], dispatcher, wish.team)
            model = f"{provider.name}:{model}"
        elif wish.credentials is not None or wish.config is not None:
            raise InvalidRequest("`credentials` and `config` are for one provider: name it.", param="provider")
        else:
            await self._check_credentials(_candidates(wish, catalog), dispatcher, wish.team)
        return self._running(wish, model, catalog, dispatcher)

    async def _overridden(self, wish: Wish, provider: Provider) -> tuple[Provider, Credentials | None]:
        if wish.config:
            entries = await self._providers.entries()
            provider = configured(provider, wish.config, entries, self._environment)
        if provider.base_url is None:
            raise InvalidRequest(_no_address(provider), param="config")
        if wish.credentials is None:
            return provider, None
        credentials = read_credentials(provider, wish.credentials)
        return (takes_key(provider) if credentials.key else provider), credentials

    def _dispatcher_for(self, provider: Provider, credentials: Credentials | None) -> Dispatcher:
        if credentials is None:
            return self._dispatcher
        if credentials.aws is None:
            return self._dispatcher.with_keys(FirstKeys(credentials.keys(provider.name), self._keys))
        signed = {**self._authorizers, "sigv4": SignedByRole(StaticCredentials(credentials.aws), self._region)}
        # Without keys: a stored one would go as a bearer token in the place of the signature.
        return Dispatcher(self._http, GivenKeys({}), self._dialects, signed, log.warning)

    async def _check_credentials(self, providers: list[Provider], dispatcher: Dispatcher, team: str) -> None:
        """Over HTTP a provider without a key is simply not there; who runs the code is told what to put where."""
        for provider in providers:
            if await dispatcher.is_configured(provider, team):
                return
        if providers and providers[0].enabled:
            places = list(dispatcher.key_places(providers[0], team))
            if providers[0].credential == "oauth":
                places[0] = 'the argument credentials={"service_account": …}'
            if providers[0].credential == "sigv4":
                places.append("AWS credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)")
            raise CredentialsMissing(
                f"Provider `{providers[0].name}` has no credentials. Any of these gives them: {'; '.join(places)}.",
                param="credentials",
            )

    def _running(self, wish: Wish, model: str | None, catalog: Catalog, dispatcher: Dispatcher) -> RunningCall:
        tags = _tags(wish.tags)
        gateway = pipeline.Gateway(
            auth=TeamCaller(wish.team, tags),
            catalog=FixedCatalog(catalog),
            choice=ModelChoice(dispatcher),
            dispatcher=dispatcher,
            circuits=self._circuits,
            accounts=self._accounts,
            admission=self._admission,
            report=lambda record, _overhead_s: self._settled(record),
        )
        started = time.perf_counter()
        call = Call(
            request_id=new_request_id(),
            endpoint=wish.endpoint,
            body=_body(wish.fields, model),
            token=None,
            started=started,
            deadline=inf if wish.timeout_s is None else started + _positive(wish.timeout_s),
            body_object=False,
        )
        told = {
            "request_id": call.request_id,
            "endpoint": wish.endpoint,
            "team": wish.team,
            "requested_model": model,
            "stream": wish.stream,
            "tags": tags,
        }
        return RunningCall(gateway.exchange(call), self._telemetry, told)


def _named(name: str, catalog: Catalog) -> Provider:
    found = catalog.providers.get(canonical(name))
    if found is None:
        hint = did_you_mean(canonical(name), catalog.providers) or f"; known: {one_of(catalog.providers)}"
        raise InvalidRequest(f"`{name}` is no provider{hint}.", param="provider")
    return found


def _positive(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < inf:
        raise InvalidRequest("`timeout_s` must be a positive number of seconds.", param="timeout_s")
    return seconds


def _tags(given: Mapping[str, str] | None) -> dict[str, str]:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidRequest("`tags` must be a mapping of names to values.", param="tags")
    return checked_tags(dict(given), "tags.") if given else {}


def _candidates(wish: Wish, catalog: Catalog) -> list[Provider]:
    """The providers of which one must be callable for the call to come to anything."""
    if wish.model is None and wish.endpoint == "moderations":
        return [provider for provider in catalog.providers.values() if provider.quirks.moderations is not None]
    alias = catalog.aliases.get(wish.model or catalog.default_model or "")
    if alias is None:
        return named_providers(wish.model, catalog)
    deployments = [*alias.deployments]
    with suppress(ModelNotFound):
        deployments += [each for group in resolve(alias.name, catalog, ()).groups for each in group.deployments]
    names = dict.fromkeys(each.provider for each in deployments)
    return [catalog.providers[name] for name in names if name in catalog.providers]


def _only_model(wish: Wish, provider: Provider) -> str:
    """The model of a moderation may be left out, and is then the provider's usual one."""
    if wish.endpoint == "moderations":
        from llm_gateway.dialects.moderations import DEFAULT_MODELS, no_moderations  # noqa: PLC0415 - seldom needed

        if provider.quirks.moderations is None:
            raise no_moderations(provider)
        return DEFAULT_MODELS[provider.quirks.moderations]
    raise InvalidRequest(f"Provider `{provider.name}` needs a `model`.", param="model")


def _no_address(provider: Provider) -> str:
    row = provider_rows().get(provider.name)
    variables = " or ".join(row.base_url_env) if row is not None else ""
    or_set = f", or set {variables}" if variables else ""
    return f'Provider `{provider.name}` has no address: give config={{"base_url": …}}{or_set}.'


def _body(fields: Mapping[str, Any], model: str | None) -> bytes:
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        body = orjson.dumps(given if model is None else {"model": model, **given}, default=_plain)
    except TypeError as error:
        raise InvalidRequest(f"The arguments cannot be written as JSON: {error}.") from None
    if b"null" in body:  # which is what orjson makes of a number that JSON does not have
        _check_numbers(given)
    return body


def _check_numbers(given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if (number := _not_finite(value)) is not None:
            raise InvalidRequest(f"`{name}` holds {number}, which is no number in JSON.", param=name)


def _not_finite(value: Any) -> float | None:
    """The first float within that is infinite or none."""
    if isinstance(value, float):
        return None if isfinite(value) else value
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((found for each in inner if (found := _not_finite(each)) is not None), None)


def _plain(value: Any) -> Any:
    """Models of pydantic's, such as the messages that an SDK gave, and any other mapping or sequence."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(type(value).__name__)
