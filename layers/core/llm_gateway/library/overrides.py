"""What a call in this process may decide for itself: a provider's address and ways, and its credentials.

Nothing of this can be said over HTTP: there, addresses come from the registry and keys from their stores alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from llm_gateway.catalog.build import build_provider
from llm_gateway.catalog.faults import ConfigError, did_you_mean, one_of
from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider, Timeouts
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.errors import CredentialsMissing, InvalidRequest
from llm_gateway.library.plugins import is_plugin
from llm_gateway.pipeline.provider_keys import GivenKeys
from llm_gateway.upstream.credentials import AwsCredentials

_OF_PROVIDER = ("base_url", "api_version", "region", "headers", "quirks")
_TIMEOUTS = tuple(Timeouts.__dataclass_fields__)
_AWS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


@dataclass(frozen=True, slots=True)
class Credentials:
    """As given with one call: a key, or credentials to sign with."""

    key: str | None = field(default=None, repr=False)
    aws: AwsCredentials | None = None

    def keys(self, provider: str) -> GivenKeys:
        return GivenKeys({} if self.key is None else {provider: self.key})


def configured(
    provider: Provider,
    config: Mapping[str, Any],
    entries: Mapping[str, RegistryEntry],
    environment: Mapping[str, str],
) -> Provider:
    """`provider` with what `config` says over what the registry's `entries`, by provider, say.

    Raises `InvalidRequest` for what is no part of a provider's configuration.
    """
    _known(config, (*_OF_PROVIDER, "timeouts"), "config")
    over = {name: config[name] for name in _OF_PROVIDER if config.get(name) is not None}
    if not over:
        return provider
    if is_plugin(provider):
        raise InvalidRequest(
            f"Provider `{provider.name}` is code of this process: of `config` it takes `timeouts` only, not "
            f"{one_of(f'`{name}`' for name in over)}.",
            param="config",
        )
    held = entries[provider.name].document if provider.name in entries else {}
    try:
        return build_provider(provider.name, {**held, **over}, environment)
    except ConfigError as error:
        raise InvalidRequest(str(error), param="config") from None


def with_timeouts(catalog: Catalog, provider: str, model: str, seconds: Mapping[str, Any]) -> Catalog:
    """`catalog`, in which `provider:model` takes its time from `seconds` (`connect_s`, `first_token_s`, …)."""
    _known(seconds, _TIMEOUTS, "config.timeouts")
    for name, value in seconds.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise InvalidRequest(f"`{name}` must be a positive number of seconds.", param=f"config.timeouts.{name}")
    name = f"{provider}:{model}"
    alias = Alias(name, (Deployment(provider, model),), timeouts=Timeouts(**seconds))
    return replace(catalog, aliases={**catalog.aliases, name: alias})


def read_credentials(provider: Provider, given: Mapping[str, Any]) -> Credentials:
    """Takes `api_key`; for Vertex `service_account` (its file's JSON, as text or mapping); for Bedrock AWS's three too.

    Raises `CredentialsMissing`, which names what is empty, and `InvalidRequest` for anything else.
    """
    allowed = {"oauth": ("service_account",), "sigv4": ("api_key", *_AWS)}.get(provider.credential, ("api_key",))
    _known(given, allowed, "credentials")
    if provider.credential == "sigv4" and any(name in given for name in _AWS):
        access, secret = (_text(provider, given, name) for name in _AWS[:2])
        return Credentials(aws=AwsCredentials(access, secret, given.get(_AWS[2]) or None))
    return Credentials(_text(provider, given, allowed[0]))


def takes_key(provider: Provider) -> Provider:
    """A local server that was given a key wants it."""
    return replace(provider, credential="bearer") if provider.credential == "none" else provider


def _text(provider: Provider, given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    if isinstance(value, Mapping):
        return orjson.dumps(value).decode()
    if not isinstance(value, str) or not value.strip():
        raise CredentialsMissing(f"Provider `{provider.name}` needs `{name}` in `credentials`.", param="credentials")
    return value.strip()


def _known(given: Mapping[str, Any], allowed: tuple[str, ...], what: str) -> None:
    for name in given:
        if name not in allowed:
            hint = did_you_mean(name, allowed) or f"; known: {one_of(allowed)}"
            raise InvalidRequest(f"`{name}` is nothing that `{what}` takes{hint}.", param=what)
