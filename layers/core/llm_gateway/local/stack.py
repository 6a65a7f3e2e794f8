"""A deployed stack, found by its outputs with the credentials that the AWS CLI would use."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from llm_gateway.catalog.faults import did_you_mean
from llm_gateway.catalog.providers import canonical, provider_rows
from llm_gateway.domain.ports import Kind
from llm_gateway.errors import Unavailable
from llm_gateway.local.place import Place, StackError, with_registry
from llm_gateway.pipeline.key_secret import UnreadableKeys, is_bare_key, read_keys, team_secret_name
from llm_gateway.upstream.credentials import AwsCredentials
from llm_gateway.upstream.google_credential_file import credential_file_fault

if TYPE_CHECKING:
    import boto3


@dataclass(frozen=True, slots=True)
class Stack:
    """`api_url` is the base URL for SDKs."""

    name: str
    api_url: str
    registry_table: str
    ledger_table: str
    usage_table: str
    session: "boto3.session.Session"
    endpoint_url: str | None = None

    def client(self, service: str) -> Any:
        return self.session.client(service, endpoint_url=self.endpoint_url)  # type: ignore[call-overload] # one of many


def find_stack(name: str, region: str | None, profile: str | None, environ: Mapping[str, str]) -> Stack:
    """Reads the outputs of the stack. Raises `StackError`."""
    import boto3

    try:
        session = boto3.session.Session(region_name=region, profile_name=profile)
        if session.get_credentials() is None:
            raise StackError(
                "no AWS credentials found: run `aws configure` or `aws sso login`, or name a profile with --profile"
            )
        if session.region_name is None:
            raise StackError("no AWS region is set: name it with --region")
        endpoint_url = environ.get("AWS_ENDPOINT_URL")
        described = session.client("cloudformation", endpoint_url=endpoint_url).describe_stacks(StackName=name)
    except ClientError as error:
        raise StackError(f"stack {name}: {error.response['Error'].get('Message', error)}") from error
    except (BotoCoreError, ResponseParserError, ValueError) as error:
        raise StackError(f"AWS cannot be asked for stack {name}: {str(error).splitlines()[0]}") from error
    outputs = {one["OutputKey"]: one["OutputValue"] for one in described["Stacks"][0].get("Outputs", [])}
    needed = ("ApiUrl", "RegistryTable", "LedgerTable", "UsageTable")
    if missing := [key for key in needed if key not in outputs]:
        raise StackError(f"stack {name} is no llm-gateway, or is not deployed yet: it has no output {missing[0]}")
    api_url, registry, ledger, usage = (outputs[key] for key in needed)
    return Stack(name, api_url, registry, ledger, usage, session, endpoint_url)


def store_provider_key(stack: Stack, provider: str, key: str, team: str | None = None) -> str:
    """Makes `<stack>/provider/<name>`, or `<stack>/team/<team>/<name>`, hold the key or keys; its name.

    Raises `StackError`.
    """
    known = _KnownProvider.named(stack, provider)
    _check_key(key, credential_files=known.credential == "oauth", of_team=team is not None)
    name: str | None = f"{stack.name}/provider/{known.secret}"
    if team is not None:
        _check_team(stack, team)
        name = team_secret_name(stack.name, team, known.secret)
    if name is None:
        raise StackError(f"team {team} has a name too long for a secret's: it can have no key of its own")
    client = stack.client("secretsmanager")
    try:
        try:
            client.put_secret_value(SecretId=name, SecretString=key)
        except client.exceptions.ResourceNotFoundException:
            client.create_secret(Name=name, SecretString=key, Tags=[{"Key": "llm-gateway:stack", "Value": stack.name}])
    except (ClientError, BotoCoreError) as error:
        raise StackError(f"secret {name} cannot be written: {error}") from error
    return name


def _check_key(key: str, *, credential_files: bool, of_team: bool) -> None:
    try:
        keys = read_keys(key, credential_files=credential_files)
    except UnreadableKeys as error:
        raise StackError(f"that is no key, nor a list of keys: {error}") from None
    if credential_files:
        faults = (credential_file_fault(each.text, federation=not of_team) for each in keys)
        if fault := next(filter(None, faults), None):
            raise StackError(f"that is no credential file of Google's: {fault}")
    elif not key.startswith("{") and not is_bare_key(keys[0].text):
        raise StackError("that is no key: it holds a space, a line break, or a character that no header can carry")


def _check_team(stack: Stack, team: str) -> None:
    if _catalog_document(stack, "team", team) is None:
        raise StackError(f"there is no team {team} in the stack; apply a gateway.toml that has it")


@dataclass(frozen=True, slots=True)
class _KnownProvider:
    secret: str
    credential: str | None

    @classmethod
    def named(cls, stack: Stack, provider: str) -> "_KnownProvider":
        """Raises `StackError` for a provider that neither we nor the stack knows."""
        name = canonical(provider.lower())
        row = provider_rows().get(name)
        if row is not None:
            if row.credential == "none":
                raise StackError(f"{name} needs no key")
            return cls(row.secret or name, row.credential)
        document = _catalog_document(stack, "provider", name)
        if document is None:
            hint = did_you_mean(name, provider_rows())
            raise StackError(
                f"{provider} is not a provider that the gateway knows{hint}; apply a gateway.toml that adds it"
            )
        like = provider_rows().get(str(document.get("like")))
        return cls(name, document.get("credential") or (like.credential if like else None))


def _catalog_document(stack: Stack, kind: Kind, name: str) -> Mapping[str, Any] | None:
    """One entry of the stack's registry; None where there is none. Raises `StackError`."""
    try:
        catalog = asyncio.run(with_registry(place_of(stack), lambda registry: registry.load_catalog()))
    except Unavailable as error:
        raise StackError(f"the stack's registry cannot be read: {error}") from error
    return next((entry.document for entry in catalog if (entry.kind, entry.name) == (kind, name)), None)


def place_of(stack: Stack) -> Place:
    """Where the stack's registry is. Raises `StackError`."""
    found = stack.session.get_credentials()
    if found is None:
        raise StackError("the AWS credentials are gone")
    frozen = found.get_frozen_credentials()
    return Place(
        table=stack.registry_table,
        ledger_table=stack.ledger_table,
        usage_table=stack.usage_table,
        region=stack.session.region_name,
        credentials=AwsCredentials(str(frozen.access_key), str(frozen.secret_key), frozen.token),
        endpoint_url=stack.endpoint_url,
        base_url=stack.api_url,
    )
