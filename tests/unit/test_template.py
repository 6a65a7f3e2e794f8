"""Specifies the stack, on the template as SAM's translator leaves it: what is streamed, who may do what, what callers of a
failing API Gateway see, what is watched, and that names agree with the code's own: settings, tables, metrics."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llm_gateway import errors
from llm_gateway.local.tables import LEDGER_INDEXES, TTL_ATTRIBUTE, shapes
from llm_gateway.observability.metrics import CIRCUIT_METRICS, METRICS, NAMESPACE
from llm_gateway.settings import Settings
from tests.fakes.sam_template import TEMPLATE, Stack, load_template, transform

ROOT = TEMPLATE.parent
EVERYTHING = {
    "Tracing": "on",
    "Bedrock": "on",
    "SnapStart": "on",
    "AlarmEmail": "ops@example.com",
    "DomainName": "llm.example.com",
    "CertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/1",
    "BasePath": "ai",
    "HostedZoneId": "Z1",
}
NOT_SETTINGS = {"AWS_LAMBDA_EXEC_WRAPPER": "Lambda's own"}
GATEWAY_RESPONSES = {
    "DEFAULT_4XX", "DEFAULT_5XX", "UNAUTHORIZED", "ACCESS_DENIED", "EXPIRED_TOKEN", "INVALID_API_KEY", "INVALID_SIGNATURE",
    "WAF_FILTERED", "MISSING_AUTHENTICATION_TOKEN", "RESOURCE_NOT_FOUND", "REQUEST_TOO_LARGE", "THROTTLED", "QUOTA_EXCEEDED",
    "INTEGRATION_FAILURE", "INTEGRATION_TIMEOUT",
}  # fmt: skip


@cache
def stack(**parameters: Any) -> Stack:
    return Stack.transformed(**parameters)


def gateway_function(**parameters: Any) -> dict[str, Any]:
    return dict(stack(**parameters).of_type("AWS::Lambda::Function")["GatewayFunction"])


# --- Streaming ------------------------------------------------------------------------------------------------------


def integrations(template: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    paths = template["Resources"]["Api"]["Properties"]["Body"]["paths"]
    return {
        (path, method): definition["x-amazon-apigateway-integration"]
        for path, methods in paths.items()
        for method, definition in methods.items()
    }


def test_every_route_goes_to_the_function_and_is_streamed() -> None:
    routes = integrations(stack().template)
    assert set(routes) == {
        ("/", "x-amazon-apigateway-any-method"),
        ("/{proxy+}", "x-amazon-apigateway-any-method"),
        ("/admin/{proxy+}", "x-amazon-apigateway-any-method"),
    }
    admin = routes.pop(("/admin/{proxy+}", "x-amazon-apigateway-any-method"))
    assert "responseTransferMode" not in admin, "the control plane's answers are short, and buffered"
    assert "functions/${AdminFunction.Arn}/invocations" in admin["uri"]["Fn::Sub"]
    for integration in routes.values():
        assert integration["type"] == "aws_proxy"
        assert integration["responseTransferMode"] == "STREAM"
        assert integration["timeoutInMillis"] == 900_000
        uri = integration["uri"]["Fn::Sub"]
        assert "lambda:path/2021-11-15/functions/${GatewayFunctionAliaslive}/response-streaming-invocations" in uri


@pytest.mark.parametrize(
    "mode", ["STREAM", {"Ref": "StageName"}, {"Fn::If": ["IsTraced", "RESPONSE_STREAM", "BUFFERED"]}]
)
def test_anything_but_the_literal_would_be_buffered(mode: Any) -> None:
    """Why the literals stand in the template, and why the test above reads what the transform made of them."""
    template = load_template()
    template["Resources"]["GatewayFunction"]["Properties"]["Events"]["Rest"]["Properties"]["ResponseTransferMode"] = (
        mode
    )
    parameters = {name: one["Default"] for name, one in template["Parameters"].items()}
    changed = integrations(transform(template, parameters))["/{proxy+}", "x-amazon-apigateway-any-method"]
    assert "responseTransferMode" not in changed
    assert "response-streaming-invocations" not in json.dumps(changed["uri"])


def test_the_api_is_regional_and_leaves_bodies_as_they_are() -> None:
    (api,) = stack().of_type("AWS::ApiGateway::RestApi").values()
    assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert "BinaryMediaTypes" not in api
    assert "x-amazon-apigateway-binary-media-types" not in api["Body"]


def test_the_wrapper_is_packed_and_executable() -> None:
    assert gateway_function()["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"] == "/var/task/run"
    run = ROOT / "functions" / "gateway" / "run"
    assert run.stat().st_mode & 0o111
    assert run.read_text().startswith("#!/bin/sh\n")


# --- The function ---------------------------------------------------------------------------------------------------


def test_the_function_runs_as_parameters_say() -> None:
    plain = gateway_function()
    assert (plain["Runtime"], plain["Architectures"], plain["MemorySize"], plain["Timeout"]) == (
        "python3.13",
        ["arm64"],
        256,
        900,
    )
    assert plain["SnapStart"] == {"ApplyOn": "None"}
    assert plain["TracingConfig"] == {"Mode": "PassThrough"}
    full = gateway_function(Architecture="x86_64", MemorySize=512, **EVERYTHING)
    assert (full["Architectures"], full["MemorySize"]) == (["x86_64"], 512)
    assert full["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert full["TracingConfig"] == {"Mode": "Active"}
    layers = stack(Architecture="x86_64").of_type("AWS::Lambda::LayerVersion")
    assert {tuple(one["CompatibleArchitectures"]) for one in layers.values()} == {("x86_64",)}


def test_a_published_alias_takes_the_traffic() -> None:
    (alias,) = stack().of_type("AWS::Lambda::Alias").values()
    assert alias["Name"] == "live"
    permissions = stack().of_type("AWS::Lambda::Permission")
    assert permissions
    by_api = [one for one in permissions.values() if one["Principal"] == "apigateway.amazonaws.com"]
    assert {one["FunctionName"] for one in by_api} == {"GatewayFunctionAliaslive", "AdminFunction"}


def test_environment_variables_are_settings() -> None:
    aliases = {field.alias for field in Settings.model_fields.values()}
    variables = gateway_function(**EVERYTHING)["Environment"]["Variables"]
    assert set(variables) - set(NOT_SETTINGS) <= aliases
    settings = Settings.from_environment({**variables, "CORS_ORIGINS": "https://a.example, https://b.example"})
    assert settings.stack == "llm-gateway"
    assert settings.ledger_table == "LedgerTable"
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    admins = stack(**EVERYTHING).of_type("AWS::Lambda::Function")["AdminFunction"]["Environment"]["Variables"]
    assert set(admins) <= aliases
    identity = {name for name in variables if name.startswith("OIDC_")}
    assert identity <= set(admins), "who is let in on one plane is known on the other"


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
def test_logs_are_never_filtered_above_what_metrics_need(level: str) -> None:
    function = gateway_function(LogLevel=level)
    assert function["LoggingConfig"]["ApplicationLogLevel"] == level
    assert set(load_template()["Parameters"]["LogLevel"]["AllowedValues"]) == {"DEBUG", "INFO"}
    assert stack().of_type("AWS::Logs::LogGroup")["GatewayLogs"]["RetentionInDays"] == 30


# --- Roles ----------------------------------------------------------------------------------------------------------


def statements(one: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    for role, properties in one.of_type("AWS::IAM::Role").items():
        for policy in properties.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                yield role, statement


def test_every_function_has_a_role_of_its_own() -> None:
    functions = stack().of_type("AWS::Lambda::Function")
    roles = [properties["Role"] for properties in functions.values()]
    assert len(set(roles)) == len(functions)
    declared = stack().of_type("AWS::IAM::Role")
    for role in roles:
        properties = declared[role.removesuffix(".Arn")]
        assert "ManagedPolicyArns" not in properties
        assert properties["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {
            "Service": "lambda.amazonaws.com"
        }


@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_a_wildcard_has_a_named_reason(parameters: dict[str, str]) -> None:
    one = stack(**parameters)
    reasons = one.template["Metadata"]["WildcardReasons"]
    needed = set()
    for role, statement in statements(one):
        actions, resources = as_list(statement["Action"]), as_list(statement["Resource"])
        assert not [action for action in actions if "*" in action], f"{role}.{statement['Sid']}"
        if "*" in resources:
            needed.add(f"{role}.{statement['Sid']}")
    assert needed <= set(reasons)
    if parameters:
        assert needed == set(reasons), "a reason for what is not there"


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_the_gateway_may_do_only_what_it_does() -> None:
    allowed = {statement["Sid"]: statement for role, statement in statements(stack()) if role == "GatewayRole"}
    assert {sid: (set(as_list(one["Action"])), as_list(one["Resource"])) for sid, one in allowed.items()} == {
        "WriteLogs": (
            {"logs:CreateLogStream", "logs:PutLogEvents"},
            ["arn:aws:logs:us-east-1:123456789012:log-group:GatewayLogs:log-stream:*"],
        ),
        "ReadRegistry": ({"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}, ["RegistryTable.Arn"]),
        "KeepLedger": (
            {"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"},
            ["LedgerTable.Arn"],
        ),
        "ListRequests": ({"dynamodb:Query"}, ["LedgerTable.Arn/index/listed"]),
        "ReadUsage": ({"dynamodb:Query"}, ["UsageTable.Arn"]),
        "KeepAnswers": ({"dynamodb:PutItem", "dynamodb:UpdateItem"}, ["CacheTable.Arn"]),
        "HearOfFailingDeployments": ({"dynamodb:GetItem"}, ["CacheTable.Arn"]),
        "QueueLostSettlements": ({"sqs:SendMessage"}, ["LedgerFallbackQueue.Arn"]),
        "ReadProviderKeys": (
            {"secretsmanager:GetSecretValue"},
            [
                "arn:aws:secretsmanager:us-east-1:123456789012:secret:llm-gateway/provider/*",
                "arn:aws:secretsmanager:us-east-1:123456789012:secret:llm-gateway/team/*",
            ],
        ),
    }


def test_bedrock_is_for_those_who_switch_it_on() -> None:
    allowed = {statement["Sid"]: statement for _, statement in statements(stack(Bedrock="on"))}
    assert set(allowed["CallBedrock"]["Action"]) == {"bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"}
    assert all(":bedrock:" in resource for resource in allowed["CallBedrock"]["Resource"])
    # Converse with a guardrailConfig needs it: https://docs.aws.amazon.com/bedrock/latest/userguide/guardrails-permissions.html
    assert allowed["ApplyGuardrails"]["Action"] == "bedrock:ApplyGuardrail"
    assert [resource.split(":", 5)[5] for resource in allowed["ApplyGuardrails"]["Resource"]] == [
        "guardrail/*",
        "guardrail-profile/*",
    ]
    assert {role for role, each in statements(stack(Bedrock="on")) if each["Sid"] == "ApplyGuardrails"} == {
        "GatewayRole"
    }


def test_no_secret_is_made_empty() -> None:
    assert not stack(**EVERYTHING).of_type("AWS::SecretsManager::Secret")


# --- Tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", ["registry_table", "ledger_table", "usage_table", "cache_table"])
def test_tables_are_those_of_a_laptop(attribute: str) -> None:
    """`llm_gateway.local.tables` makes the same four."""
    settings = Settings.from_environment(gateway_function()["Environment"]["Variables"])
    (shape,) = [shape for shape in shapes(settings) if shape.name == getattr(settings, attribute)]
    table = stack().of_type("AWS::DynamoDB::Table")[shape.name]
    keys = [("pk", "HASH"), ("sk", "RANGE")] if shape.sorted else [("pk", "HASH")]
    assert [(key["AttributeName"], key["KeyType"]) for key in table["KeySchema"]] == keys
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table.get("TimeToLiveSpecification") == (
        {"AttributeName": TTL_ATTRIBUTE, "Enabled": True} if shape.expires else None
    )
    assert table.get("StreamSpecification") == ({"StreamViewType": "NEW_AND_OLD_IMAGES"} if shape.stream else None)
    assert table.get("GlobalSecondaryIndexes", []) == (list(LEDGER_INDEXES) if shape.indexed else [])
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}


def test_what_cannot_be_made_again_outlives_the_stack() -> None:
    tables = {name: one for name, one in stack().resources.items() if one["Type"] == "AWS::DynamoDB::Table"}
    for name, table in tables.items():
        kept = name != "CacheTable"
        assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == ("Retain" if kept else "Delete"), name
        assert ("DeletionProtectionEnabled" in table["Properties"]) == kept, name
        assert "TableName" not in table["Properties"], "a retained table would be in the way of the next stack"
    assert (
        stack(DeletionProtection="false").of_type("AWS::DynamoDB::Table")["LedgerTable"]["DeletionProtectionEnabled"]
        == "false"
    )


# --- What API Gateway answers by itself -----------------------------------------------------------------------------


def gateway_responses() -> dict[str, Any]:
    (api,) = stack().of_type("AWS::ApiGateway::RestApi").values()
    return dict(api["Body"]["x-amazon-apigateway-gateway-responses"])


def test_no_answer_of_api_gateway_is_left_out() -> None:
    assert set(gateway_responses()) == GATEWAY_RESPONSES


@pytest.mark.parametrize("name", sorted(GATEWAY_RESPONSES))
def test_api_gateways_own_answers_are_in_the_envelope(name: str) -> None:
    response = gateway_responses()[name]
    text = response["responseTemplates"]["application/json"]
    # The one variable is a JSON string, quotes included: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-mapping-template-reference.html
    body = json.loads(text.replace("$context.error.messageString", '"said by API Gateway"'))
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert body["error"]["param"] is None
    assert response["responseParameters"]["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'"
    assert "gatewayresponse.header.Access-Control-Allow-Credentials" not in response["responseParameters"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("UNAUTHORIZED", errors.AuthenticationFailed),
        ("ACCESS_DENIED", errors.PermissionDenied),
        ("RESOURCE_NOT_FOUND", errors.RouteNotFound),
        ("MISSING_AUTHENTICATION_TOKEN", errors.RouteNotFound),
        ("REQUEST_TOO_LARGE", errors.BodyTooLarge),
        ("THROTTLED", errors.RateLimited),
        ("QUOTA_EXCEEDED", errors.RateLimited),
        ("INTEGRATION_TIMEOUT", errors.UpstreamTimeout),
        ("INTEGRATION_FAILURE", errors.UpstreamTimeout),
        ("DEFAULT_5XX", errors.InternalFailure),
    ],
)
def test_they_say_what_the_app_would_say(name: str, error: type[errors.GatewayError]) -> None:
    response = gateway_responses()[name]
    said = json.loads(response["responseTemplates"]["application/json"])["error"]
    assert said["type"] == error.type
    if error.code is not None and name != "ACCESS_DENIED":
        assert said["code"] == error.code
    assert response.get("statusCode") in {str(error.status), None}
    assert ("gatewayresponse.header.Retry-After" in response["responseParameters"]) == (error.status == 429)


# --- Access log, throttling, domain ---------------------------------------------------------------------------------


def test_the_access_log_is_json_without_query_strings() -> None:
    (stage,) = stack().of_type("AWS::ApiGateway::Stage").values()
    fields = json.loads(stage["AccessLogSetting"]["Format"])
    assert fields["path"] == "$context.path"
    assert not [
        value for value in fields.values() if "querystring" in value or "header" in value or "userAgent" in value
    ]
    assert stage["MethodSettings"] == [
        {"ResourcePath": "/*", "HttpMethod": "*", "ThrottlingRateLimit": 100, "ThrottlingBurstLimit": 200}
    ]


def test_the_account_role_for_logs_can_be_left_alone() -> None:
    assert stack().of_type("AWS::ApiGateway::Account")
    left = stack(AccessLog="use-account-role")
    assert not left.of_type("AWS::ApiGateway::Account")
    assert "AccessLogSetting" in next(iter(left.of_type("AWS::ApiGateway::Stage").values()))
    off = stack(AccessLog="off")
    assert "AccessLogSetting" not in next(iter(off.of_type("AWS::ApiGateway::Stage").values()))


@pytest.mark.parametrize(
    ("parameters", "url"),
    [
        ({}, "https://Api.execute-api.us-east-1.amazonaws.com/prod/v1"),
        ({"StageName": "v2"}, "https://Api.execute-api.us-east-1.amazonaws.com/v2/v1"),
        (EVERYTHING, "https://llm.example.com/ai/v1"),
        ({**EVERYTHING, "BasePath": ""}, "https://llm.example.com/v1"),
    ],
    ids=["stage", "other stage", "base path", "domain"],
)
def test_the_output_is_the_base_url(parameters: dict[str, str], url: str) -> None:
    one = stack(**parameters)
    assert one.value(one.template["Outputs"]["ApiUrl"]["Value"]) == url
    mappings = one.of_type("AWS::ApiGateway::BasePathMapping")
    assert bool(mappings) == ("DomainName" in parameters)
    for mapping in mappings.values():
        assert mapping.get("BasePath", "") == parameters["BasePath"]
        assert mapping["Stage"] == "ApiStage"


def test_the_next_step_is_three_commands() -> None:
    lines = stack().value(stack().template["Outputs"]["NextStep"]["Value"]).splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"llm-gateway [a-z ]+.* --stack llm-gateway --region us-east-1", line) for line in lines)


# --- Dashboard and alarms -------------------------------------------------------------------------------------------

SEARCH = re.compile(
    r"""SEARCH\('\{(?P<schema>[^}]+)\} service="llm-gateway" MetricName="(?P<name>\w+)"', '(?P<stat>\w+)', \d+\)"""
)
Shown = tuple[str, str, tuple[str, ...]]
"""Namespace, name, names of dimensions in order."""


def dashboard_metrics() -> Iterator[Shown]:
    (dashboard,) = stack().of_type("AWS::CloudWatch::Dashboard").values()
    for widget in json.loads(dashboard["DashboardBody"])["widgets"]:
        for metric in widget["properties"]["metrics"]:
            yield read_metric(metric)


def read_metric(metric: list[Any]) -> Shown:
    if isinstance(metric[0], dict):
        search = SEARCH.fullmatch(metric[0]["expression"])
        assert search, metric[0]["expression"]
        namespace, *dimensions = search["schema"].split(",")
        return namespace, search["name"], tuple(dimensions)
    namespace, name, *rest = [part for part in metric if not isinstance(part, dict)]
    assert len(rest) % 2 == 0, metric
    return namespace, name, tuple(rest[::2])


def alarm_metrics() -> Iterator[Shown]:
    for alarm in stack().of_type("AWS::CloudWatch::Alarm").values():
        yield alarm["Namespace"], alarm["MetricName"], tuple(one["Name"] for one in alarm.get("Dimensions", []))


def filter_metrics() -> set[Shown]:
    transformations = [one["MetricTransformations"] for one in stack().of_type("AWS::Logs::MetricFilter").values()]
    return {(one["MetricNamespace"], one["MetricName"], ()) for each in transformations for one in each}


AWS_METRICS: set[Shown] = {
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-metrics-and-dimensions.html
    *(("AWS/ApiGateway", name, ("ApiName",)) for name in ("Count", "4XXError", "5XXError")),
    # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
    *(
        ("AWS/Lambda", name, ("FunctionName",))
        for name in ("Throttles", "ConcurrentExecutions", "Errors", "IteratorAge")
    ),
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
    *(
        ("AWS/SQS", name, ("QueueName",))
        for name in ("ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage", "NumberOfMessagesSent")
    ),
}
EMITTED: set[Shown] = {
    (NAMESPACE, name, one)
    for name, metric in (*METRICS.items(), *CIRCUIT_METRICS.items())
    for one in metric.dimension_sets
}


def test_what_is_watched_is_emitted() -> None:
    watched = {*dashboard_metrics(), *alarm_metrics()}
    assert watched <= EMITTED | AWS_METRICS | filter_metrics()


def test_what_is_emitted_is_shown() -> None:
    shown = {*dashboard_metrics()}
    assert {name for _, name, _ in EMITTED} == {name for namespace, name, _ in shown if namespace == NAMESPACE}
    assert filter_metrics() <= shown
    by_model = {name for namespace, name, dimensions in shown if namespace == NAMESPACE and len(dimensions) == 3}
    assert {"InputTokens", "OutputTokens", "Cost"} <= by_model


def test_the_ledgers_fallback_is_counted_by_the_words_of_its_log_line() -> None:
    pattern = stack().of_type("AWS::Logs::MetricFilter")["LedgerUnavailable"]["FilterPattern"]
    assert pattern == '{ $.message = "ledger_unavailable" }'
    logs = (ROOT / "layers" / "core" / "llm_gateway" / "observability" / "logs.py").read_text()
    assert '"ledger_unavailable"' in logs


def test_alarms_go_where_they_are_told_to() -> None:
    assert not any(alarm["AlarmActions"] for alarm in stack().of_type("AWS::CloudWatch::Alarm").values())
    for parameters, target in (
        ({"AlarmEmail": "ops@example.com"}, "AlarmTopic"),
        ({"AlarmTopicArn": "arn:sns:t"}, "arn:sns:t"),
    ):
        alarms = stack(**parameters).of_type("AWS::CloudWatch::Alarm")
        assert len(alarms) == 10
        assert all(alarm["AlarmActions"] == alarm["OKActions"] == [target] for alarm in alarms.values())


def test_monitoring_can_be_left_out() -> None:
    off = stack(Monitoring="off", AlarmEmail="ops@example.com")
    types = {one["Type"] for one in off.resources.values()}
    assert not types & {"AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard"}
    assert "AlarmTopic" not in off.resources


# --- Layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_a_makefile_says_what_the_layer_is_built_for(architecture: str) -> None:
    """The makefile is not told: `ContextPath` chooses it by the parameter."""
    metadata = load_template()["Resources"]["DependenciesLayer"]["Metadata"]
    context = Stack({}, {"Architecture": architecture}).value(metadata["ContextPath"])
    makefile = Path(ROOT, context, "Makefile").read_text()
    assert makefile.startswith(f"ARCHITECTURE := {architecture}\n")
    assert "include" in makefile
