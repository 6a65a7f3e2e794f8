"""Specifies the rollup's part of the stack: what comes to it, what becomes of what it cannot do, and what it may do."""

import json
import re
from typing import Any

import pytest

from llm_gateway.adapters.attributes import encode_record
from llm_gateway.adapters.total_attributes import folded_mark
from llm_gateway.settings import Settings
from tests.contract.records import open_record, plain_record
from tests.fakes.event_pattern import matches
from tests.fakes.sam_template import TEMPLATE, Stack
from tests.unit.test_template import as_list, stack, statements

ROOT = TEMPLATE.parent


def mapping(name: str) -> dict[str, Any]:
    return dict(stack().of_type("AWS::Lambda::EventSourceMapping")[name])


def function() -> dict[str, Any]:
    return dict(stack().of_type("AWS::Lambda::Function")["RollupFunction"])


def test_its_variables_are_settings() -> None:
    variables = function()["Environment"]["Variables"]
    assert set(variables) <= {field.alias for field in Settings.model_fields.values()}
    settings = Settings.from_environment(variables)
    assert (settings.usage_table, settings.ledger_table) == ("UsageTable", "LedgerTable")
    assert settings.alert_topic == "BudgetAlertTopic"
    gateway = stack().of_type("AWS::Lambda::Function")["GatewayFunction"]["Environment"]["Variables"]
    assert Settings.from_environment(gateway).fallback_queue_url == "LedgerFallbackQueue"


def test_the_stream_is_read_so_that_poison_is_named_and_given_up() -> None:
    stream = mapping("RollupFunctionLedger")
    assert stream["EventSourceArn"] == "LedgerTable.StreamArn"
    assert stream["StartingPosition"] == "TRIM_HORIZON"
    assert stream["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert stream["BisectBatchOnFunctionError"] is True
    assert 0 < stream["MaximumRetryAttempts"] < 100
    assert stream["DestinationConfig"] == {"OnFailure": {"Destination": "RollupDeadLetters.Arn"}}
    assert stream["MaximumBatchingWindowInSeconds"] <= 5
    queue = mapping("RollupFunctionFallback")
    assert queue["EventSourceArn"] == "LedgerFallbackQueue.Arn"
    assert queue["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_message_that_is_never_settled_is_kept() -> None:
    queues = stack().of_type("AWS::SQS::Queue")
    assert set(queues) == {"LedgerFallbackQueue", "LedgerFallbackDeadLetters", "RollupDeadLetters"}
    assert queues["LedgerFallbackQueue"]["RedrivePolicy"]["deadLetterTargetArn"] == "LedgerFallbackDeadLetters.Arn"
    assert queues["LedgerFallbackQueue"]["VisibilityTimeout"] >= 6 * function()["Timeout"]
    assert all(
        queue["SqsManagedSseEnabled"] and queue["MessageRetentionPeriod"] == 1_209_600 for queue in queues.values()
    )


def test_the_sweep_is_called_each_minute() -> None:
    (rule,) = stack().of_type("AWS::Events::Rule").values()
    assert rule["ScheduleExpression"] == "rate(1 minute)"
    assert rule["State"] == "ENABLED" if "State" in rule else True
    assert [target["Arn"] for target in rule["Targets"]] == ["RollupFunction.Arn"]


def change(item: dict[str, Any] | None, name: str = "MODIFY") -> dict[str, Any]:
    keys = {"pk": (item or {"pk": {"S": "req#1"}})["pk"]}
    return {"eventName": name, "dynamodb": {"Keys": keys, **({} if item is None else {"NewImage": item})}}


ABANDONED = open_record("req_1", status="abandoned")
SETTLED = plain_record("req_1")


@pytest.mark.parametrize(
    ("event", "passes"),
    [
        pytest.param(change(encode_record(open_record("req_1")), "INSERT"), False, id="opened"),
        pytest.param(change(encode_record(SETTLED)), True, id="settled"),
        pytest.param(change(encode_record(SETTLED), "INSERT"), True, id="settled at once"),
        pytest.param(change(encode_record(plain_record("req_1", status="failed"))), True, id="failed"),
        pytest.param(change(encode_record(SETTLED) | {"folded": folded_mark(SETTLED)}), False, id="counted"),
        pytest.param(change(encode_record(ABANDONED)), True, id="abandoned"),
        pytest.param(change(encode_record(SETTLED) | {"folded": folded_mark(ABANDONED)}), True, id="a late truth"),
        pytest.param(change(None, "REMOVE"), False, id="expired"),
        pytest.param(change({"pk": {"S": "scope#team#search"}, "f": {"N": "1"}}), False, id="a scope"),
    ],
)
def test_the_filter_passes_what_is_to_be_counted(event: dict[str, Any], passes: bool) -> None:
    (one,) = mapping("RollupFunctionLedger")["FilterCriteria"]["Filters"]
    assert matches(json.loads(one["Pattern"]), event) is passes


def test_the_rollup_may_do_only_what_it_does() -> None:
    allowed = {statement["Sid"]: statement for role, statement in statements(stack()) if role == "RollupRole"}
    assert {sid: (set(as_list(one["Action"])), as_list(one["Resource"])) for sid, one in allowed.items()} == {
        "WriteLogs": (
            {"logs:CreateLogStream", "logs:PutLogEvents"},
            ["arn:aws:logs:us-east-1:123456789012:log-group:RollupLogs:log-stream:*"],
        ),
        "ReadStream": (
            {"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"},
            ["LedgerTable.StreamArn"],
        ),
        "FindStream": ({"dynamodb:ListStreams"}, ["*"]),
        "ReadCatalog": ({"dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"}, ["RegistryTable.Arn"]),
        "KeepLedger": ({"dynamodb:GetItem", "dynamodb:UpdateItem"}, ["LedgerTable.Arn"]),
        "FindDue": ({"dynamodb:Query"}, ["LedgerTable.Arn/index/due"]),
        "KeepTotals": ({"dynamodb:ConditionCheckItem", "dynamodb:UpdateItem"}, ["UsageTable.Arn"]),
        "ReadFallback": (
            {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"},
            ["LedgerFallbackQueue.Arn"],
        ),
        "GiveUp": ({"sqs:SendMessage"}, ["RollupDeadLetters.Arn"]),
        "SendAlerts": ({"sns:Publish"}, ["BudgetAlertTopic"]),
    }


def test_budget_alerts_go_to_an_address_where_one_is_given() -> None:
    assert not stack().of_type("AWS::SNS::Subscription")
    (one,) = Stack.transformed(BudgetAlertEmail="finance@example.com").of_type("AWS::SNS::Subscription").values()
    assert one == {"TopicArn": "BudgetAlertTopic", "Protocol": "email", "Endpoint": "finance@example.com"}


def test_what_is_given_up_rings() -> None:
    watched = {
        dimension["Value"]
        for alarm in stack().of_type("AWS::CloudWatch::Alarm").values()
        for dimension in alarm.get("Dimensions", [])
    }
    assert {
        "LedgerFallbackQueue.QueueName", "LedgerFallbackDeadLetters.QueueName", "RollupDeadLetters.QueueName", "RollupFunction",
    } <= watched  # fmt: skip


def test_the_function_is_one_file() -> None:
    makefile = (ROOT / "functions" / "rollup" / "Makefile").read_text()
    assert re.search(r"^build-RollupFunction:$", makefile, re.MULTILINE)
    assert {path.name for path in (ROOT / "functions" / "rollup").iterdir() if path.is_file()} == {"Makefile", "app.py"}
