"""What a local stack starts with: tables, provider keys from the environment, the caller's key, `gateway.toml`.

All of it goes through the same API as in a deployed stack, so nothing later needs to know that it is local.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import uuid4

from llm_gateway.adapters.registry_edits import command_event
from llm_gateway.catalog.config import GatewayConfig, PendingKey, entries, keys, pending_keys
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id, new_token
from llm_gateway.domain.ports import RegistryEditor, RegistryEntry
from llm_gateway.domain.revisions import Change, Delete, Put, Snapshot
from llm_gateway.errors import RevisionConflict
from llm_gateway.pipeline.key_secret import team_secret_name
from llm_gateway.settings import Settings
from llm_gateway.upstream.credentials import AwsCredentials

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_secretsmanager.type_defs import SecretListEntryTypeDef

LOCAL_KEY_NAME = "local"
_TRIES: Final = 5
_MOST_NAMED: Final = 5
_SEEDED: Final = "llm-gateway-environment-"
"""What the id of a version begins with that comes from the environment. Whoever stores a key makes another version."""


def local_key(token: str) -> VirtualKey:
    return VirtualKey(key_id=lookup_id(token), name=LOCAL_KEY_NAME, key_hash=hash_key(token), role="admin")


def provider_keys(variables: Mapping[str, Sequence[str]], environ: Mapping[str, str]) -> dict[str, str]:
    """Secret name -> key, for those whose key is in the environment.

    `variables` are the environment's names by secret; the first one that is set wins.
    """
    return {
        secret: environ[name]
        for secret, names in variables.items()
        if (name := next((name for name in names if environ.get(name)), None))
    }


def seeded_keys(config: GatewayConfig, stack: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Whole secret name -> key: the stack's own, and those of its teams."""
    keys = {f"{stack}/provider/{name}": key for name, key in provider_keys(config.api_key_env(), environ).items()}
    for (team, secret), variable in config.team_key_env().items():
        name = team_secret_name(stack, team, secret)
        if name is not None and environ.get(variable):
            keys[name] = environ[variable]
    return keys


def seed_secrets(
    client: "SecretsManagerClient", stack: str, keys: Mapping[str, str], tell: Callable[[str], None] | None = None
) -> None:
    """Makes the secrets hold each key, by whole name, and removes what an earlier environment had left there.

    A key that came another way stays as it is; `tell` gets a line where the environment has another one. Raises
    `botocore.exceptions.ClientError`.
    """
    prefixes = [f"{stack}/provider/", f"{stack}/team/"]
    pages = client.get_paginator("list_secrets").paginate(
        Filters=[{"Key": "name", "Values": prefixes}], IncludePlannedDeletion=True
    )
    known = {secret["Name"]: secret for page in pages for secret in page["SecretList"]}
    for name, key in keys.items():
        if name in known and _origin(known[name]) == "somebody":
            kept = client.get_secret_value(SecretId=name, VersionStage="AWSCURRENT").get("SecretString")
            if tell is not None and kept != key:
                tell(f"llm-gateway keeps the key stored as {name}: the environment's is another, and is not used")
        else:
            _seed_secret(client, known.get(name), name, key)
    for name, secret in known.items():
        if name not in keys and _origin(secret) == "environment":
            client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def _seed_secret(client: "SecretsManagerClient", before: "SecretListEntryTypeDef | None", name: str, key: str) -> None:
    version = f"{_SEEDED}{uuid4().hex}"
    if before is None:
        client.create_secret(Name=name, SecretString=key, ClientRequestToken=version)
        return
    if before.get("DeletedDate"):
        client.restore_secret(SecretId=name)
    client.put_secret_value(SecretId=name, SecretString=key, ClientRequestToken=version)


def _origin(secret: "SecretListEntryTypeDef") -> Literal["environment", "somebody"] | None:
    """Who stored the key that it has; None where it has none, or waits for its deletion."""
    versions = secret.get("SecretVersionsToStages", {})
    current = next((version for version, stages in versions.items() if "AWSCURRENT" in stages), None)
    if current is None or secret.get("DeletedDate"):
        return None
    return "environment" if current.startswith(_SEEDED) else "somebody"


async def seed_registry(
    registry: RegistryEditor, token: str, config: GatewayConfig | None, tell: Callable[[str], None] | None = None
) -> list[tuple[str, str]]:
    """Makes the registry hold the local key and exactly what the file says; without a file the rest stays as it was.

    All of it or nothing, in one revision; `tell` gets a line where something was removed. Returns the keys made for
    names without one, as (name, key): they are shown once. Raises `errors.Unavailable`, and `errors.RevisionConflict`
    where others change it all the time.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            return await _seed(registry, token, config, tell)
        except RevisionConflict:
            if not tries_left:
                raise
    raise AssertionError


async def _seed(
    registry: RegistryEditor, token: str, config: GatewayConfig | None, tell: Callable[[str], None] | None
) -> list[tuple[str, str]]:
    key = local_key(token)
    now = await registry.read()
    known = list(now.keys())
    # The key of an earlier run with another GATEWAY_API_KEY must not open the door any more.
    stale = {one.key_id for one in known if one.name == LOCAL_KEY_NAME and one.role == "admin"}
    made: list[tuple[str, str]] = []
    changes: list[Change] = []
    if config is not None:
        changes += exactly(entries(config), now)
        given = [configured for _, configured in keys(config)]
        # An exported file names the local key too, whose token is this run's.
        pending = [one for one in pending_keys(config) if (one.name, one.role) != (key.name, key.role)]
        issued, made = issue(pending, [one for one in known if one.key_id not in stale])
        changes += [Put.token(one) for one in (*given, *issued)]
        stale = {one.key_id for one in known} - {one.key_id for one in (*given, *issued)}
    changes += [Put.token(key), *(Delete("token", key_id) for key_id in stale - {key.key_id})]
    await registry.commit(changes, now.revision, command_event("config.seed"))
    if tell is not None and (gone := removed(changes, known)):
        what = f"{len(gone)} thing{'s' if len(gone) > 1 else ''}"
        shown = ", ".join(gone[:_MOST_NAMED]) + (", …" if len(gone) > _MOST_NAMED else "")
        tell(f"llm-gateway removed {what} that the file does not name: {shown}")
    return made


def removed(changes: Iterable[Change], known: Iterable[VirtualKey]) -> list[str]:
    """What these changes end, as `team ads`. A key is not ended by a token that another replaces."""
    gone = {(change.kind, change.name) for change in changes if isinstance(change, Delete)}
    kept = {change.document["name"] for change in changes if isinstance(change, Put) and change.kind == "token"}
    keys = {one.name for one in known if ("token", one.key_id) in gone} - kept
    others = [f"{kind} {name}" for kind, name in gone if kind not in ("token", "key", "settings")]
    return sorted([*others, *(f"key {name}" for name in keys)])


def exactly(wanted: Sequence[RegistryEntry], now: Snapshot) -> list[Change]:
    """What makes the catalog these entries; virtual keys stay as they are."""
    names = {(entry.kind, entry.name) for entry in wanted}
    gone = [Delete(kind, name) for kind, name in now.entries if kind != "token" and (kind, name) not in names]
    return [*(Put(entry.kind, entry.name, entry.document) for entry in wanted), *gone]


def issue(pending: Iterable[PendingKey], known: Sequence[VirtualKey]) -> tuple[list[VirtualKey], list[tuple[str, str]]]:
    """The keys that the file names without giving them, and (name, token) of those made now.

    One that was made before, by name, keeps its token and gets what the file says today; so do those that were rotated.
    """
    issued: list[VirtualKey] = []
    made: list[tuple[str, str]] = []
    for key in pending:
        before = [one for one in known if one.name == key.name]
        issued += [key.renew(one) for one in before]
        if all(one.rotated for one in before):
            token = new_token()
            issued.append(key.issue(token))
            made.append((key.name, token))
    return issued, made


def masked(token: str) -> str:
    """A key of the user's own as it may be shown: its last four characters, where there are enough others."""
    return f"sk-…{token[-4:]}" if len(token) >= 12 else "sk-…"


def client(service: Any, settings: Settings, credentials: AwsCredentials) -> Any:
    """A boto3 client for a local stack, which takes nothing from the environment's `AWS_*`."""
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.session_token,
        region_name=settings.region,
    )
    bounded = Config(
        connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}, proxies={}
    )
    return session.client(service, endpoint_url=settings.aws_endpoint_url, config=bounded)
