"""Reads every policy of the stack: who may write what, and that nothing is wider than a named reason makes it.

What each role may do to the letter is in `test_template.py` and beside it; here is what no role may ever have.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest

from tests.fakes.sam_template import TEMPLATE, Stack

SWITCHED_ON = {
    "Tracing": "on",
    "Bedrock": "on",
    "SnapStart": "on",
    "AlarmEmail": "ops@example.com",
    "BudgetAlertEmail": "money@example.com",
    "OidcIssuer": "https://id.example.com",
    "OidcAudience": "llm-gateway",
}
VARIANTS = pytest.mark.parametrize("variant", ["defaults", "everything"])

WIDE_RESOURCES = {
    r"arn:aws:logs:[^*]+:log-group:\w+:log-stream:\*": "a stream is named by the environment that writes it",
    r"arn:aws:secretsmanager:[^*]+:secret:llm-gateway/(provider|team)/\*": "operators name providers and teams later",
    r"arn:aws:bedrock:\*::foundation-model/\*": "which models are called is said by the configuration",
    r"arn:aws:bedrock:\*:123456789012:(application-)?inference-profile/\*": "as above: profiles of this account alone",
    r"arn:aws:bedrock:\*:123456789012:guardrail(-profile)?/\*": "a request names its guardrail, one of this account's",
}
"""A star inside of an ARN, and why. One that is the whole resource stands in the template's `WildcardReasons`."""

NEVER = {
    "iam:": "nobody makes roles",
    "sts:": "nobody becomes another",
    "kms:": "every key is AWS's own; its use needs no permission",
    "lambda:": "no function calls or changes another",
    "dynamodb:Scan": "a table is read by what is asked for",
    "dynamodb:DeleteTable": "tables are the stack's",
    "dynamodb:UpdateTable": "tables are the stack's",
    "secretsmanager:ListSecrets": "it shows what other stacks have",
    "secretsmanager:GetRandomPassword": "it takes no resource, and nobody needs one",
    "secretsmanager:PutResourcePolicy": "it could open a secret to another account",
}
WRITES = {
    "dynamodb": {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems", "PartiQLInsert"},
    "secretsmanager": {
        "CreateSecret", "PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage", "DeleteSecret", "RestoreSecret",
        "RotateSecret", "TagResource", "UntagResource",
    },
}  # fmt: skip


class Allowed(NamedTuple):
    role: str
    sid: str
    action: str
    resource: str


@cache
def stack(variant: str) -> Stack:
    return Stack.transformed(**(SWITCHED_ON if variant == "everything" else {}))


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def policies(one: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of every role, with the role's name."""
    for role, properties in one.of_type("AWS::IAM::Role").items():
        for policy in properties.get("Policies", []):
            for statement in listed(policy["PolicyDocument"]["Statement"]):
                yield role, statement


def allowed(one: Stack) -> Iterator[Allowed]:
    for role, statement in policies(one):
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                yield Allowed(role, statement["Sid"], action, resource)


@VARIANTS
def test_a_statement_says_what_it_allows_and_nothing_by_exclusion(variant: str) -> None:
    for role, statement in policies(stack(variant)):
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}, role
        assert statement["Effect"] == "Allow", role
        assert re.fullmatch(r"[A-Z][A-Za-z]+", statement["Sid"]), role
    sids = [(role, statement["Sid"]) for role, statement in policies(stack(variant))]
    assert len(set(sids)) == len(sids)


@VARIANTS
def test_policies_stand_in_roles_alone(variant: str) -> None:
    """Policies of their own, and permissions by name, would be read by nobody here."""
    kinds = {resource["Type"] for resource in stack(variant).resources.values()}
    assert not kinds & {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::User", "AWS::IAM::Group"}


@VARIANTS
def test_no_action_is_a_wildcard_or_one_that_nobody_may_have(variant: str) -> None:
    for each in allowed(stack(variant)):
        assert re.fullmatch(r"[a-z0-9-]+:[A-Z][A-Za-z]+", each.action), each
        assert not [reason for start, reason in NEVER.items() if each.action.startswith(start)], each


@VARIANTS
def test_a_star_in_a_resource_has_a_named_reason(variant: str) -> None:
    one = stack(variant)
    reasons = one.template["Metadata"]["WildcardReasons"]
    used = set()
    for each in allowed(one):
        if each.resource == "*":
            assert f"{each.role}.{each.sid}" in reasons, each
        elif "*" in each.resource or "?" in each.resource:
            fitting = [pattern for pattern in WIDE_RESOURCES if re.fullmatch(pattern, each.resource)]
            assert fitting, each
            used.update(fitting)
    if variant == "everything":
        assert used == set(WIDE_RESOURCES), "a reason for what is not there"


@VARIANTS
@pytest.mark.parametrize("what", ["registry", "secrets"])
def test_only_the_control_plane_writes_the_configuration_and_the_secrets(variant: str, what: str) -> None:
    if what == "registry":
        writers = {each.role for each in writing(variant, "dynamodb") if each.resource.startswith("RegistryTable.")}
    else:
        writers = {each.role for each in writing(variant, "secretsmanager")}
    assert writers <= {"AdminRole"}
    assert ("AdminRole" in stack(variant).resources) == bool(writers)


@VARIANTS
def test_the_control_plane_writes_nothing_that_is_accounted(variant: str) -> None:
    """Whoever may change limits must not be able to change what was spent."""
    of_admin = [each for each in writing(variant, "dynamodb") if each.role == "AdminRole"]
    assert not [each for each in of_admin if each.resource.startswith(("LedgerTable.", "UsageTable."))]


@VARIANTS
def test_only_those_who_call_providers_read_their_keys(variant: str) -> None:
    readers = {each.role for each in allowed(stack(variant)) if each.action == "secretsmanager:GetSecretValue"}
    assert readers <= {"GatewayRole", "AdminRole"}


def writing(variant: str, service: str) -> list[Allowed]:
    names = {f"{service}:{name}" for name in WRITES[service]}
    return [each for each in allowed(stack(variant)) if each.action in names]


@VARIANTS
def test_every_write_of_a_service_is_known_here(variant: str) -> None:
    """So that a new one is not taken for a read: what is no known write must read."""
    for each in allowed(stack(variant)):
        service, name = each.action.split(":")
        if service in WRITES and name not in WRITES[service]:
            assert re.match(r"(Get|BatchGet|Query|Describe|List|ConditionCheck)", name), each


@VARIANTS
def test_roles_are_taken_by_services_of_aws_alone(variant: str) -> None:
    for role, properties in stack(variant).of_type("AWS::IAM::Role").items():
        for statement in listed(properties["AssumeRolePolicyDocument"]["Statement"]):
            assert set(statement["Principal"]) == {"Service"}, role
            assert set(listed(statement["Principal"]["Service"])) <= {
                "lambda.amazonaws.com",
                "apigateway.amazonaws.com",
            }
            assert listed(statement["Action"]) == ["sts:AssumeRole"], role


@VARIANTS
def test_functions_are_called_by_this_stacks_own_alone(variant: str) -> None:
    for name, permission in stack(variant).of_type("AWS::Lambda::Permission").items():
        assert permission["Principal"] != "*", name
        assert permission["Action"] == "lambda:InvokeFunction", name
        assert permission.get("SourceArn"), f"{name}: any API or rule of any account could call it"
        assert "FunctionUrlAuthType" not in permission, name
    assert not stack(variant).of_type("AWS::Lambda::Url")


@VARIANTS
def test_what_has_a_policy_of_its_own_opens_to_nobody_else(variant: str) -> None:
    for kind in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::SecretsManager::ResourcePolicy"):
        assert not stack(variant).of_type(kind), "read it here before it is added"


@VARIANTS
def test_no_secret_is_in_an_environment_variable(variant: str) -> None:
    for name, function in stack(variant).of_type("AWS::Lambda::Function").items():
        for variable in function.get("Environment", {}).get("Variables", {}):
            assert not re.search(r"API_KEY|PASSWORD|SECRET|TOKEN|PRIVATE", variable), f"{name}.{variable}"


@VARIANTS
def test_everything_that_is_kept_is_encrypted(variant: str) -> None:
    one = stack(variant)
    assert all(
        table["SSESpecification"] == {"SSEEnabled": True} for table in one.of_type("AWS::DynamoDB::Table").values()
    )
    assert all(queue["SqsManagedSseEnabled"] for queue in one.of_type("AWS::SQS::Queue").values())


def test_what_checkov_does_not_look_at_has_a_reason() -> None:
    lines = (TEMPLATE.parent / ".checkov.yaml").read_text().partition("skip-check:\n")[2].splitlines()
    assert lines
    for line in lines:
        assert re.fullmatch(r"  - CKV_AWS_\d+ # [A-Z].{20,}\.", line), line


def test_both_planes_believe_the_same_identity_provider() -> None:
    functions = stack("everything").of_type("AWS::Lambda::Function")
    said = [
        {name: value for name, value in functions[each]["Environment"]["Variables"].items() if name.startswith("OIDC_")}
        for each in ("GatewayFunction", "AdminFunction")
    ]
    assert said[0] == said[1]
    assert said[0]["OIDC_ISSUER"] == "https://id.example.com"
    assert len(said[0]) == 8
