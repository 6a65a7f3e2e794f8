"""Specifies the signature: the same as botocore's for whatever the gateway may send, whatever was signed before."""

import datetime as dt
from unittest import mock

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.upstream.credentials import AwsCredentials
from llm_gateway.upstream.sigv4 import sign

NOW = 1_770_000_000
PLAIN = AwsCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SESSION = AwsCredentials("ASIAEXAMPLE", "secret", "IQoJb3JpZ2luX2VjEXAMPLE//token==")
JSON_HEADERS = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "DynamoDB_20120810.PutItem"}


def reference(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    credentials: AwsCredentials,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """What botocore sends for the same request, with lower-case names."""
    request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
    held = Credentials(credentials.access_key, credentials.secret_key, credentials.session_token)
    moment = dt.datetime.fromtimestamp(now, dt.UTC).replace(tzinfo=None)
    with mock.patch("botocore.auth.get_current_datetime", return_value=moment):  # botocore takes no clock
        SigV4Auth(held, service, region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


BEDROCK = "https://bedrock-runtime.eu-west-1.amazonaws.com/model"
DYNAMODB = "https://dynamodb.us-east-1.amazonaws.com"
CASES = [
    pytest.param("POST", f"{DYNAMODB}/", JSON_HEADERS, b"{}", PLAIN, "dynamodb", id="dynamodb"),
    pytest.param("POST", DYNAMODB, JSON_HEADERS, b"{}", PLAIN, "dynamodb", id="no-path"),
    pytest.param("POST", "http://127.0.0.1:8001/", JSON_HEADERS, b"{}", SESSION, "dynamodb", id="port-and-session"),
    pytest.param("POST", "https://example.com:443/", {}, b"", PLAIN, "sqs", id="default-port"),
    pytest.param("POST", "http://[::1]:8001/", JSON_HEADERS, b"{}", PLAIN, "dynamodb", id="ipv6"),
    pytest.param("GET", "https://Example.COM/a%20b/c", {}, b"", PLAIN, "s", id="host-case"),
    pytest.param("POST", f"{BEDROCK}/eu.amazon.nova-2:0/converse", {}, b"{}", SESSION, "bedrock", id="colon"),
    pytest.param("POST", f"{BEDROCK}/eu.amazon.nova-2%3A0/converse", {}, b"{}", SESSION, "bedrock", id="escaped-colon"),
    pytest.param(
        "POST",
        f"{BEDROCK}/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fx/converse-stream",
        {"content-type": "application/json", "accept": "application/vnd.amazon.eventstream"},
        b'{"messages":[]}',
        SESSION,
        "bedrock",
        id="arn",
    ),
    pytest.param("GET", "https://h/p?b=2&a=1&a=0&c&d=&e=%20x%3D", {}, b"", PLAIN, "s", id="query"),
    pytest.param("GET", "https://h//a/./b/../c//", {}, b"", PLAIN, "s", id="dots-and-slashes"),
    pytest.param("GET", "https://h/..", {}, b"", PLAIN, "s", id="above-root"),
    pytest.param("POST", "https://h/", {"x-a": "  two   words\t here ", "x-b": ""}, b"", PLAIN, "s", id="spaces"),
    pytest.param("POST", "https://h/", {"user-agent": "u", "expect": "e", "x-c": "1"}, b"", PLAIN, "s", id="hops"),
    pytest.param("POST", "https://h/", {"host": "other.example", "x-c": "1"}, b"", PLAIN, "s", id="host-given"),
    pytest.param("POST", "https://h/", {"x-c": "é"}, "ü€".encode(), PLAIN, "s", id="non-ascii"),
    pytest.param("POST", "https://h/", {"x-amz-content-sha256": "abc"}, b"body", PLAIN, "s", id="digest-given"),
    pytest.param("POST", "https://h/", {"authorization": "Bearer old"}, b"", PLAIN, "s", id="signed-again"),
]


@pytest.mark.parametrize(("method", "url", "headers", "body", "credentials", "service"), CASES)
def test_signs_as_botocore_does(
    *, method: str, url: str, headers: dict[str, str], body: bytes, credentials: AwsCredentials, service: str
) -> None:
    ours = sign(method, url, headers, body, credentials, "eu-west-1", service, NOW)
    theirs = reference(method, url, headers, body, credentials, "eu-west-1", service, NOW)
    assert ours["authorization"] == theirs["authorization"]
    assert ours == theirs


_segment = st.text("abcXYZ09-_.~:@!$&'()*+,;=%é/", max_size=12)
_token = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
_value = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    path=_segment,
    query=st.lists(st.tuples(_token, st.text("abc%20=~", max_size=6)), max_size=4),
    headers=st.dictionaries(_token.map(lambda name: f"x-{name}"), _value, max_size=5),
    body=st.binary(max_size=200),
    now=st.integers(0, 4_000_000_000),
    credentials=st.sampled_from([PLAIN, SESSION]),
)
def test_signs_as_botocore_does_for_anything(
    *,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    now: int,
    credentials: AwsCredentials,
) -> None:
    url = f"https://service.example/{path}"
    if query:
        url += "?" + "&".join(f"{name}={value}" for name, value in query)
    ours = sign("POST", url, headers, body, credentials, "us-east-1", "service", now)
    assert ours == reference("POST", url, headers, body, credentials, "us-east-1", "service", now)


def test_cached_keys_do_not_mix() -> None:
    """The derived key is remembered: day, Region, service and secret each make it another."""
    other = AwsCredentials(PLAIN.access_key, "another secret")
    variants = [
        (PLAIN, "us-east-1", "dynamodb", NOW),
        (PLAIN, "us-east-1", "dynamodb", NOW + 86_400),
        (PLAIN, "us-east-2", "dynamodb", NOW),
        (PLAIN, "us-east-1", "sqs", NOW),
        (other, "us-east-1", "dynamodb", NOW),
    ]
    for _ in range(2):
        for credentials, region, service, now in variants:
            ours = sign("POST", "https://h/", JSON_HEADERS, b"x", credentials, region, service, now)
            assert ours == reference("POST", "https://h/", JSON_HEADERS, b"x", credentials, region, service, now)


def test_what_was_given_is_left_alone() -> None:
    headers = {"x-a": "1", "authorization": "Bearer of the caller"}
    signed = sign("POST", "https://h/", headers, b"", SESSION, "us-east-1", "s", NOW)
    assert headers == {"x-a": "1", "authorization": "Bearer of the caller"}
    assert signed["x-a"] == "1"
    assert signed["x-amz-security-token"] == SESSION.session_token
    assert "x-amz-security-token" in signed["authorization"]
