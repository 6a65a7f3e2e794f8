"""What `doctor` looks at in AWS, as the AWS CLI would reach it: credentials, stack, tables, secrets."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from llm_gateway.cli.doctor_findings import Finding, failed
from llm_gateway.cli.failures import ExitCode
from llm_gateway.cli.shell import Shell
from llm_gateway.cli.target import data_of

if TYPE_CHECKING:
    import boto3

    from llm_gateway.local.place import Place
    from llm_gateway.local.stack import Stack

_TABLES: Final = ("RegistryTable", "LedgerTable", "UsageTable", "CacheTable")
_LOG_IN: Final = "run `aws configure` or `aws sso login`, or name a profile with --profile"


def examine_stack(shell: Shell, name: str) -> Iterator[Finding]:
    from llm_gateway.local.place import StackError
    from llm_gateway.local.stack import find_stack

    identity = _identity(shell)
    yield identity
    if identity.status == "failed":
        return
    try:
        stack = find_stack(name, shell.given.region, shell.given.profile, shell.environ)
    except StackError as error:
        yield failed("stack", error, "`sam list stack-outputs --stack-name NAME` shows it; `make deploy` makes it")
        return
    described, outputs = _described(stack)
    yield described
    yield _tables(stack.client("dynamodb"), [outputs[each] for each in _TABLES if each in outputs])
    yield _secrets(stack)


def examine_local(shell: Shell) -> Iterator[Finding]:
    """The embedded AWS of `make run`, or whatever AWS_ENDPOINT_URL names."""
    from llm_gateway.local.place import StackError, local_place
    from llm_gateway.local.run import CannotRun

    try:
        place = local_place(data_of(shell.given, shell.environ), shell.environ)
    except (StackError, CannotRun) as error:
        yield Finding("tables", "failed", str(error), "start it with `make run`", ExitCode.UNREACHABLE)
        return
    yield _tables(_local_client(place, "dynamodb"), [place.table, place.ledger_table, place.usage_table])


def _identity(shell: Shell) -> Finding:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = boto3.session.Session(region_name=shell.given.region, profile_name=shell.given.profile)
        if session.get_credentials() is None:
            return failed("credentials", "no AWS credentials found", _LOG_IN)
        if session.region_name is None:
            return failed("credentials", "no AWS region is set", "name it with --region, or in AWS_REGION")
        who = _client(session, "sts", shell.environ).get_caller_identity()
    except (BotoCoreError, ClientError, ValueError) as error:
        return failed("credentials", _first_line(error), _LOG_IN)
    return Finding("credentials", "ok", f"{who['Arn']} in {session.region_name}")


def _described(stack: "Stack") -> tuple[Finding, Mapping[str, str]]:
    """The finding, and the stack's outputs."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        (described,) = stack.client("cloudformation").describe_stacks(StackName=stack.name)["Stacks"]
    except (BotoCoreError, ClientError) as error:
        return failed("stack", _first_line(error)), {}
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described.get("Outputs", [])}
    status = described["StackStatus"]
    if not status.endswith("_COMPLETE") or "ROLLBACK" in status or status.startswith("DELETE"):
        advice = "the console of CloudFormation says why; `make deploy` tries again"
        return Finding("stack", "warning", f"{stack.name} is {status}", advice), outputs
    return Finding("stack", "ok", f"{stack.name} is {status}, at {stack.api_url}"), outputs


def _tables(dynamodb: Any, names: list[str]) -> Finding:
    from botocore.exceptions import BotoCoreError, ClientError

    wrong = []
    for name in names:
        try:
            status = dynamodb.describe_table(TableName=name)["Table"]["TableStatus"]
        except ClientError as error:
            wrong.append(f"{name}: {error.response['Error']['Code']}")
        except BotoCoreError as error:
            wrong.append(f"{name}: {_first_line(error)}")
        else:
            if status != "ACTIVE":
                wrong.append(f"{name} is {status}")
    if wrong:
        return failed("tables", "; ".join(wrong), "`make deploy` makes what is missing; allow dynamodb:DescribeTable")
    return Finding("tables", "ok", f"all {len(names)} are there: {', '.join(names)}")


def _secrets(stack: "Stack") -> Finding:
    """Names alone: no value is read."""
    from botocore.exceptions import BotoCoreError, ClientError

    prefix = f"{stack.name}/provider/"
    try:
        pages = stack.client("secretsmanager").get_paginator("list_secrets")
        found = pages.paginate(Filters=[{"Key": "name", "Values": [prefix]}])
        names = [each["Name"].removeprefix(prefix) for page in found for each in page["SecretList"]]
    except (BotoCoreError, ClientError) as error:
        return failed(
            "secrets", _first_line(error), "allow secretsmanager:ListSecrets to see which providers have a key"
        )
    if not names:
        advice = f"store one: `llm-gateway secrets set openai --stack {stack.name}` (Bedrock needs none)"
        return Finding("secrets", "warning", "no provider has a key", advice)
    return Finding("secrets", "ok", f"there is a key of {', '.join(sorted(names))}")


def _client(session: "boto3.session.Session", service: str, environ: Mapping[str, str]) -> Any:
    return session.client(service, endpoint_url=environ.get("AWS_ENDPOINT_URL"))  # type: ignore[call-overload] # one of many


def _local_client(place: "Place", service: str) -> Any:
    import boto3
    from botocore.config import Config

    credentials = place.credentials
    return boto3.client(  # type: ignore[call-overload] # one of many
        service,
        region_name=place.region,
        endpoint_url=place.endpoint_url,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.session_token,
        config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2}),
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
