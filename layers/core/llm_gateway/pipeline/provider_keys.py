"""Whose key a call to a provider carries, and where it is kept.

A `KeyResolver` answers with the keys that may serve one call: `SystemKeys` and `TeamKeys` (from the secret store),
`EnvironmentKeys` (from a process's own variables), `GivenKeys` (from the caller in this process). `FirstKeys` asks
several in order. Which of the keys is taken is the business of `key_ring`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llm_gateway.catalog.providers import provider_rows
from llm_gateway.domain.catalog import Provider
from llm_gateway.errors import ProviderKeyUnreadable
from llm_gateway.pipeline.key_secret import UnreadableKeys, read_keys, system_secret_name, team_secret_name
from llm_gateway.upstream.google_credential_file import NOT_A_TEAMS, is_federation

KeySource = Literal["team", "system", "environment", "given"]


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A key of a provider's. `text` is what the credential is made of: a bare key, or a credential file in JSON."""

    text: str = field(repr=False)
    source: KeySource = "system"
    name: str | None = None
    """What the ledger and the log call it; None where there is only one."""
    weight: int = 1


class KeyResolver(Protocol):
    async def resolve(self, provider: Provider, team: str | None) -> Sequence[ProviderKey]:
        """The keys that may serve a call of `team`; empty where there is none.

        Raises `errors.Unavailable` where that cannot be said: the store is down, or what it holds cannot be read
        (`ProviderKeyUnreadable`).
        """
        ...

    def refresh(self, provider: Provider, team: str | None) -> None:
        """Says that a key was refused: the next `resolve` looks again."""
        ...

    def places(self, provider: Provider, team: str | None) -> Sequence[str]:
        """Where a key could be put, for the one who operates it: "the secret `gw/provider/openai`"."""
        ...


class RefreshableSecrets(Protocol):
    """A cached `SecretStore`."""

    async def get_secret(self, name: str) -> str | None: ...

    def invalidate(self, name: str) -> None: ...


class SystemKeys:
    """The stack's own keys: the secret `<stack>/provider/<name>`."""

    def __init__(self, secrets: RefreshableSecrets, stack: str) -> None:
        self._stored = _StoredKeys(secrets, "system")
        self._stack = stack

    async def resolve(self, provider: Provider, team: str | None) -> Sequence[ProviderKey]:  # noqa: ARG002 - everyone's
        return await self._stored.read(self._name(provider), provider)

    def refresh(self, provider: Provider, team: str | None) -> None:  # noqa: ARG002 - everyone's
        self._stored.forget(self._name(provider))

    def places(self, provider: Provider, team: str | None) -> Sequence[str]:  # noqa: ARG002 - everyone's
        return (f"the secret `{self._name(provider)}`",)

    def _name(self, provider: Provider) -> str:
        return system_secret_name(self._stack, provider)


class TeamKeys:
    """A team's own keys: the secret `<stack>/team/<team>/<name>`. A caller without a team has none."""

    def __init__(self, secrets: RefreshableSecrets, stack: str) -> None:
        self._stored = _StoredKeys(secrets, "team")
        self._stack = stack

    async def resolve(self, provider: Provider, team: str | None) -> Sequence[ProviderKey]:
        name = self._name(provider, team)
        return () if name is None else await self._stored.read(name, provider)

    def refresh(self, provider: Provider, team: str | None) -> None:
        if (name := self._name(provider, team)) is not None:
            self._stored.forget(name)

    def places(self, provider: Provider, team: str | None) -> Sequence[str]:
        name = self._name(provider, team)
        return () if name is None else (f"the secret `{name}`",)

    def _name(self, provider: Provider, team: str | None) -> str | None:
        return None if team is None else team_secret_name(self._stack, team, provider.secret or provider.name)


class EnvironmentKeys:
    """Keys from variables such as OPENAI_API_KEY, for the gateway as a library: those that the vendor's row names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    async def resolve(self, provider: Provider, team: str | None) -> Sequence[ProviderKey]:  # noqa: ARG002 - everyone's
        for variable in _variables(provider):
            if text := self._environ.get(variable, "").strip():
                return _keys_of(text, provider, "environment", f"the variable {variable}")
        return ()

    def refresh(self, provider: Provider, team: str | None) -> None:
        """Nothing is kept: `resolve` always looks."""

    def places(self, provider: Provider, team: str | None) -> Sequence[str]:  # noqa: ARG002 - everyone's
        return tuple(f"the environment variable {variable}" for variable in _variables(provider))


class GivenKeys:
    """Keys that came with a call in this process, by the provider's name. No request over HTTP makes one of these."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = {name: (ProviderKey(text, "given"),) for name, text in keys.items()}

    async def resolve(self, provider: Provider, team: str | None) -> Sequence[ProviderKey]:  # noqa: ARG002 - the call's
        return self._keys.get(provider.name, ())

    def refresh(self, provider: Provider, team: str | None) -> None:
        """What was given stays."""

    def places(self, provider: Provider, team: str | None) -> Sequence[str]:  # noqa: ARG002 - the call's
        return ('the argument credentials={"api_key": …}',)


class FirstKeys:
    """The first of several resolvers that has any key: a team's own come before the stack's.

    Only having none moves on. A team's key that is refused, rate-limited or unreadable is never replaced by the
    stack's: that would move one's bill to another.
    """

    def __init__(self, *resolvers: KeyResolver) -> None:
        self._resolvers = resolvers

    async def resolve(self, provider: Provider, team: str | None) -> Sequence[ProviderKey]:
        for resolver in self._resolvers:
            if keys := await resolver.resolve(provider, team):
                return keys
        return ()

    def refresh(self, provider: Provider, team: str | None) -> None:
        for resolver in self._resolvers:
            resolver.refresh(provider, team)

    def places(self, provider: Provider, team: str | None) -> Sequence[str]:
        return tuple(place for resolver in self._resolvers for place in resolver.places(provider, team))


def stack_keys(secrets: RefreshableSecrets, stack: str) -> KeyResolver:
    """What a stack resolves by: a team's own keys, then the stack's."""
    return FirstKeys(TeamKeys(secrets, stack), SystemKeys(secrets, stack))


class _StoredKeys:
    """Secrets as keys; each text is read once."""

    def __init__(self, secrets: RefreshableSecrets, source: KeySource) -> None:
        self._secrets = secrets
        self._source = source
        self._read: dict[tuple[str, bool], tuple[str, Sequence[ProviderKey]]] = {}
        """By the secret's name, and whether it holds credential files: providers that share it may differ in that."""

    async def read(self, name: str, provider: Provider) -> Sequence[ProviderKey]:
        text = await self._secrets.get_secret(name)
        place = (name, provider.credential == "oauth")
        if text is None:
            self._read.pop(place, None)
            return ()
        held = self._read.get(place)
        if held is not None and held[0] == text:
            return held[1]
        try:
            keys = _keys_of(text, provider, self._source, f"the {self._source} key of provider `{provider.name}`")
        except ProviderKeyUnreadable:
            self._secrets.invalidate(name)  # whoever mends it need not wait for the cache
            raise
        self._read[place] = (text, keys)
        return keys

    def forget(self, name: str) -> None:
        self._secrets.invalidate(name)


def _keys_of(text: str, provider: Provider, source: KeySource, what: str) -> Sequence[ProviderKey]:
    oauth = provider.credential == "oauth"
    try:
        found = read_keys(text, credential_files=oauth)
    except UnreadableKeys as error:
        reason = str(error)
    else:
        if not (source == "team" and oauth and any(is_federation(key.text) for key in found)):
            return tuple(ProviderKey(key.text, source, key.name, key.weight) for key in found)
        reason = NOT_A_TEAMS
    # Raised out here: what was read must not travel as this one's context.
    raise ProviderKeyUnreadable(f"What is stored as {what} cannot be read: {reason}.")


def _variables(provider: Provider) -> Sequence[str]:
    row = provider_rows().get(provider.name)
    return row.api_key_env if row is not None else ()
